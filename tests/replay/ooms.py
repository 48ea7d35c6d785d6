"""Reports of the page allocator as users of 32-bit machines published them: their figures.

Lines are put together anew from the numbers, as the kernels of the time print them.
"""

from __future__ import annotations

from typing import Final

LAPTOP_49: Final = """\
[28757.732436] updatedb invoked oom-killer: gfp_mask=0x2400840(GFP_NOFS|__GFP_NOFAIL), nodemask=0, \
order=0, oom_score_adj=0
[28757.732632] Mem-Info:
[28757.732649] Node 0 active_anon:124120kB inactive_anon:61840kB all_unreclaimable? yes
[28757.732656] DMA free:4116kB min:788kB low:984kB high:1180kB present:15984kB managed:15908kB \
free_cma:0kB
[28757.732660] lowmem_reserve[]: 0 833 3008 3008
[28757.732668] Normal free:42404kB min:42416kB low:53020kB high:63624kB present:892920kB \
managed:854328kB free_cma:0kB
[28757.732672] lowmem_reserve[]: 0 0 17397 17397
[28757.732680] HighMem free:120916kB min:512kB low:28168kB high:55824kB present:2226888kB \
managed:2226888kB free_cma:0kB
[28757.732684] lowmem_reserve[]: 0 0 0 0
[28757.732690] DMA: 1*4kB (U) 2*8kB (UE) 0*16kB 0*32kB 0*64kB 4*128kB (UE) 4*256kB (E) \
3*512kB (UE) 1*1024kB (U) 0*2048kB 0*4096kB = 4116kB
[28757.732700] Normal: 531*4kB (UME) 467*8kB (UME) 262*16kB (UME) 367*32kB (UME) 152*64kB (UME) \
71*128kB (UM) 3*256kB (E) 2*512kB (E) 0*1024kB 0*2048kB 0*4096kB = 42404kB
[28757.732710] HighMem: 27*4kB (U) 27*8kB (U) 14*64kB (UM) 14*2048kB (UM) 21*4096kB (M) = 120916kB
[28757.732800] Out of memory: Kill process 15515 (firefox.real) score 106 or sacrifice child
[28757.732810] Killed process 15515 (firefox.real) total-vm:1164008kB, anon-rss:447680kB
"""
"""A laptop of 3 GiB, 4.9, linux-mm in December 2016: lowmem full of page cache."""

WORKSTATION_2624: Final = """\
Sep  8 09:00:00 pc kernel: [430837.193448] Xorg invoked oom-killer: gfp_mask=0x2d0, order=0, \
oomkilladj=0
Sep  8 09:00:00 pc kernel: [430837.196260] Mem-info:
Sep  8 09:00:00 pc kernel: [430837.196335] DMA free:3536kB min:68kB low:84kB high:100kB \
active:0kB inactive:0kB present:16256kB pages_scanned:0 all_unreclaimable? yes
Sep  8 09:00:00 pc kernel: [430837.196340] lowmem_reserve[]: 0 873 4048 4048
Sep  8 09:00:00 pc kernel: [430837.196353] Normal free:3732kB min:3744kB low:4680kB high:5616kB \
active:0kB inactive:152kB present:894080kB pages_scanned:287 all_unreclaimable? yes
Sep  8 09:00:00 pc kernel: [430837.196357] lowmem_reserve[]: 0 0 25400 25400
Sep  8 09:00:00 pc kernel: [430837.196369] HighMem free:113132kB min:512kB low:3916kB \
high:7324kB active:1500112kB inactive:804356kB present:3251200kB all_unreclaimable? no
Sep  8 09:00:00 pc kernel: [430837.196374] lowmem_reserve[]: 0 0 0 0
Sep  8 09:00:00 pc kernel: [430837.196382] DMA: 0*4kB 0*8kB 1*16kB 0*32kB 1*64kB 1*128kB \
1*256kB 0*512kB 1*1024kB 1*2048kB 0*4096kB = 3536kB
Sep  8 09:00:00 pc kernel: [430837.196405] Normal: 256*4kB 20*8kB 2*16kB 2*32kB 1*64kB 1*128kB \
1*256kB 0*512kB 0*1024kB 1*2048kB 0*4096kB = 3776kB
"""
"""A workstation of 4 GiB, Ubuntu's 2.6.24, a forum in September 2008: a graphics driver."""

PI_4: Final = """\
[  492.650000] smbd invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
[  492.659081] DMA free:519112kB boost:7216kB min:10428kB low:11228kB high:12028kB \
reserved_highatomic:0KB present:786432kB managed:663836kB mlocked:0kB bounce:0kB free_pcp:236kB \
local_pcp:232kB free_cma:513592kB
[  492.661151] lowmem_reserve[]: 0 0 3188 3188
[  492.662208] DMA: 142*4kB (UEC) 161*8kB (UEC) 59*16kB (UEC) 51*32kB (UEC) 18*64kB (UEC) \
2*128kB (UC) 1*256kB (C) 0*512kB 1*1024kB (C) 0*2048kB 125*4096kB (C) = 519120kB
"""
"""A Raspberry Pi 4 of 4 GiB, raspberrypi/linux issue 3872: 500 MiB of lowmem free, all of it CMA's.
The first line, and HighMem's, are not told there."""

LAPTOP_57: Final = """\
[38617.277232] Xorg invoked oom-killer: gfp_mask=0x0(), order=0, oom_score_adj=0
[38617.281527] DMA free:3092kB min:68kB low:84kB high:100kB present:15992kB managed:15916kB \
free_cma:0kB
[38617.281537] lowmem_reserve[]: 0 757 2934 757
[38617.281560] Normal free:154644kB min:3484kB low:4352kB high:5220kB present:890872kB \
managed:776536kB free_cma:0kB
[38617.281569] lowmem_reserve[]: 0 0 17414 0
[38617.281592] HighMem free:689456kB min:512kB low:3012kB high:5512kB present:2229064kB \
managed:2229064kB free_cma:0kB
[38617.281602] lowmem_reserve[]: 0 0 0 0
"""
"""A laptop of 3 GiB, 5.7-rc5, 2020: a page fault that a driver turned down, with memory enough."""

FRAGMENTED: Final = """\
[  100.000000] kworker/0:1: page allocation failure: order:4, mode:0x40cc0(GFP_KERNEL|__GFP_COMP), \
nodemask=(null)
[  100.000100] DMA free:61440kB min:3480kB low:4352kB high:5220kB managed:740000kB free_cma:0kB
[  100.000200] lowmem_reserve[]: 0 0 256 256
[  100.000300] HighMem free:233472kB min:256kB low:556kB high:856kB managed:262144kB free_cma:0kB
[  100.000400] lowmem_reserve[]: 0 0 0 0
[  100.000500] DMA: 12288*4kB (UME) 1280*8kB (UME) 128*16kB (M) 0*32kB 0*64kB 0*128kB = 61440kB
"""
"""Made up: free memory that is all in pieces."""
