#!/bin/sh
# hmrecord.sh: records what a 32-bit Linux machine maps of its high memory.
# Written by hmtrace @VERSION@. Any POSIX shell (busybox ash, dash, mksh), as root, CONFIG_KPROBE_EVENTS.
#
# What it changes while it records, and puts back however it ends (cleanup, at_exit):
#   tracefs          mounted at /sys/kernel/tracing, where nobody has it
#   instances/       hmrecord: a trace buffer of its own; hmrecord_pool: one for the start state
#   kprobe_events    probes of the groups hmrecord and hmrecord_pool
#   kptr_restrict    1: addresses in /proc/vmallocinfo, for root
#   saved_cmdlines_size  4096: names of tasks
# It writes the capture, and /run/hmrecord.state: what --remove has to put back after a kill -9.
#
# In the order of the file: words and small tools, tracefs, probes, files of the machine, the
# buffers, recording, putting back, the archive, --check, options. record() has the order of steps.
# Variables are global, as POSIX has no others; a function says which it sets.
# shellcheck disable=SC2317  # functions that traps and the table of probes call

export LC_ALL=C
set -u

usage() {
    cat <<'EOF'
usage: sh hmrecord.sh [options] [-t SECONDS | -- COMMAND...]

Without -t and COMMAND it records until Ctrl-C.

  -o FILE          where the capture goes (hmrecord.tar.gz); - is stdout; a name without .gz is
                   not compressed, one that ends in / is a folder
  -t SECONDS       how long to record
  --minimal        only the pool, the arena and flushes: for slow machines
  --buffer SIZE    of each CPU's ring buffer (512K, 16M); else an eighth of what is free of
                   lowmem, at most 32M; what cannot be copied in time is lost, and said so
  --overhead       run COMMAND without recording before and after, and note what recording costs
  --max-size SIZE  end when the trace has this size (64M, 1G); else a third of the free disk
  --text           the trace as text, for eyes, instead of pages of the ring buffer: it ends
                   before a buffer is full
  --check          say what this kernel offers and what will be missing; record nothing
  --remove         put away what a recorder left behind that was killed

Exit status: 0 recorded; 1 recorded, but ended early, with losses, or no event at all; 2 wrong usage;
3 not recorded.
EOF
}

root=${HMRECORD_ROOT:-} # for tests: where /proc, /sys, /boot and /run are looked for
proc=$root/proc
group=hmrecord # of the probes, and the name of the trace instance
nl='
'
# options
out=hmrecord.tar.gz seconds='' minimal='' overhead='' max_size='' buffer='' text='' action=record
# places: tracefs, its instances for the trace and for the pool's counters, the capture, the state
T='' I='' P='' work='' state=''
# what has to be put back
mounted='' old_kptr='' old_comms='' own_instance='' child='' remembered='' keep_work=''
# how it goes: begin, recording, ending, packing; why it ended: time command signal size buffer full
phase=begin stop='' troubles=0

# ---------------------------------------------------------------- words and small tools

note() { # WORD VALUE...: a line of the capture's file "recorder"
    [ -z "$work" ] || echo "$*" 2>/dev/null >>"$work/recorder"
}
say() {
    echo "hmrecord: $*" >&2
    note "said $*"
}
trouble() { # the capture is not whole, or something is not as it was: exit status 1
    troubles=$((troubles + 1))
    say "$*"
}
die() {
    say "$*"
    exit 3
}
have() { command -v "$1" >/dev/null 2>&1; }
# Each write to tracefs may be refused. echo is the shell's own everywhere: no fork.
put() { { echo "$1" >"$2"; } 2>/dev/null; }
add() { { echo "$1" >>"$2"; } 2>/dev/null; }
first_line() { # FILE: into $line
    line=''
    [ -r "$1" ] && { read -r line <"$1"; } 2>/dev/null
    [ -n "$line" ]
}
slurp() { # FILE: into $reading without a fork; in pieces, as adding to a long text copies it
    reading='' piece=''
    [ -r "$1" ] && while IFS= read -r line; do
        piece=$piece$line$nl
        [ ${#piece} -lt 2000 ] || { reading=$reading$piece; piece=''; }
    done <"$1"
    reading=$reading$piece
}
write() { # TEXT NAME: into the capture, without a fork
    put "${1%"$nl"}" "$work/$2"
}
copy() { # NAME FILE...: into the capture; an empty file is not kept
    copy_to=$work/$1
    shift
    cat "$@" 2>/dev/null >"$copy_to"
    copied=$?
    [ -s "$copy_to" ] || rm -f "$copy_to"
    return $copied
}
now() { # $time: centiseconds since boot
    read -r up _ <"$proc/uptime"
    time=$((${up%.*} * 100 + 1${up#*.} - 100))
}
in_kb() { # SIZE: $size_kb
    case $1 in
        *[kK]) size_kb=${1%?} ;;
        *[mM]) size_kb=$((${1%?} * 1024)) ;;
        *[gG]) size_kb=$((${1%?} * 1048576)) ;;
        *) size_kb=$(($1 / 1024)) ;;
    esac
}

# ---------------------------------------------------------------- the tracing file system

find_tracefs() { # $T, and $mounted if it was mounted here
    for T in "$root/sys/kernel/tracing" "$root/sys/kernel/debug/tracing"; do
        [ ! -e "$T/trace" ] || return 0
    done
    T=$root/sys/kernel/tracing # since Linux 4.1
    { [ -d "$T" ] && mount -t tracefs hmrecord "$T" 2>/dev/null; } || return
    mounted=$T
    [ "$action" = remove ] || remember
    [ -e "$T/trace" ]
}
need_tracefs() {
    [ -d "$root/sys/kernel" ] || die "there is no /sys/kernel: mount sysfs first"
    find_tracefs || die "no tracefs: it cannot be mounted at /sys/kernel/tracing" \
        "(CONFIG_FTRACE and CONFIG_KPROBE_EVENTS are needed, and root; before Linux 4.1:" \
        "mount -t debugfs d /sys/kernel/debug)"
    [ -e "$T/kprobe_events" ] || die "this kernel has no kprobe events (CONFIG_KPROBE_EVENTS)"
    [ -d "$T/instances" ] || die "this kernel has no trace instances (Linux 3.10 has)"
}
remember() { # what has to be put back, for --remove after a SIGKILL
    remembered=1
    case $work in /*) place=$work ;; *) place=$PWD/$work ;; esac
    put "$$ ${old_kptr:-.} ${old_comms:-.} ${mounted:-.} $place" "$state"
}
others() { # who traces as well: not in the way, but it costs time
    first_line "$T/current_tracer" && [ "$line" != nop ] &&
        say "the tracer $line is active too: it costs time"
    first_line "$T/events/enable" && [ "$line" != 0 ] &&
        say "events are enabled in the top buffer too (by another tracer): they cost time"
    for dir in "$T"/instances/*; do
        [ ! -d "$dir" ] || say "there is another trace instance: ${dir##*/}"
    done
    [ "$arch" != mips ] || say "kprobes of an unpatched MIPS kernel can panic under load" \
        "(\"Break instruction in kernel code\"): save your work"
    grep -q '^HighTotal' "$proc/meminfo" 2>/dev/null ||
        say "this kernel has no high memory (CONFIG_HIGHMEM): only the arena can be recorded"
}

# ---------------------------------------------------------------- probes

# Where a function's arguments 1 to 4 are at its entry, and the address that it returns to.
registers() {
    arch=$(uname -m)
    # shellcheck disable=SC2016  # $stack1 is the kernel's
    case $arch in
        i?86) arch=i386 a1=%ax a2=%dx a3=%cx a4='$stack1' ra='$stack0' ;;
        arm*) arch=arm a1=%r0 a2=%r1 a3=%r2 a4=%r3 ra=%lr ;;
        *64*) die "$arch is a 64-bit machine: it has no high memory" ;;
        mips*) arch=mips a1=%r4 a2=%r5 a3=%r6 a4=%r7 ra=%r31 ;;
        ppc*) arch=powerpc a1=%gpr3 a2=%gpr4 a3=%gpr5 a4=%gpr6 ra=%link ;;
        arc*) arch=arc a1=%r0 a2=%r1 a3=%r2 a4=%r3 ra=%blink ;;
        csky*) arch=csky a1=%a0 a2=%a1 a3=%a2 a4=%a3 ra=%lr ;;
        *) a1='$arg1' a2='$arg2' a3='$arg3' a4='$arg4' ra='' ;;
    esac
    caller=${ra:+caller=$ra:x32}
}

# The functions that hmtrace understands, from its collectors/probes.py. $1 is called for each:
#   EVENT KIND ENTRY RETURN SYMBOL...
# ENTRY and RETURN are what its two probes fetch (RETURN '': none); SYMBOLs its names over the
# kernels. KIND: l, local mappings, the many; o, of kernels before 5.11; u, unmaps of any address;
# s, rare: with stacks.
all_functions() {
@PROBES@
}
wanted() { # KIND
    case $minimal$modern$1 in 1*l* | *m*o*) return 1 ;; esac
}
# Those symbols that this kernel has, in one pass: $known. Compilers add .constprop.0 and .isra.0.
find_symbols() {
    [ -r "$proc/kallsyms" ] || die "no /proc/kallsyms (CONFIG_KALLSYMS): functions cannot be found"
    pattern='@PATTERN@'
    known=$nl$(grep -E "^[0-9a-f]* [tTwW] ($pattern)(\.(constprop|isra)\.[0-9]*)*\$" "$proc/kallsyms" |
        while read -r _ _ name _; do echo "$name"; done)$nl
    # where kmap_local is, kmap_atomic is a wrapper of it, if it is a function at all
    modern=''
    case $known in *"${nl}__kmap_local_pfn_prot$nl"*) modern=m ;; esac
}
symbol_of() { # SYMBOL...: $symbol, the first that this kernel has
    for name in "$@"; do
        case $known in
            *"$nl$name$nl"*) symbol=$name ;;
            *"$nl$name."*)
                symbol=${known#*"$nl$name."}
                symbol=$name.${symbol%%"$nl"*}
                ;;
            *) continue ;;
        esac
        return 0
    done
    return 1
}

set_function() { # EVENT KIND ENTRY RETURN SYMBOL...: line by line, what a kernel refuses fails alone
    event=$1 kind=$2 entry=$3 result=$4
    shift 4
    wanted "$kind" || return 0
    symbol_of "$@" || { missing="$missing $1"; return 0; }
    if set_probe "p:$group/$event $symbol${entry:+ ${entry% }}"; then
        case $kind in
            *u*) filtered="$filtered $event" ;;
            *s*) stacked="$stacked $event" ;;
        esac
    fi
    [ -n "$result" ] || return 0
    # many calls are in flight in a function that sleeps: many slots lose no return; kernels
    # before 4.12 have no number there
    set_probe "r$max_active:$group/${event}_ret $symbol $result" quietly ||
        set_probe "r:$group/${event}_ret $symbol $result"
}
set_probe() { # LINE [quietly]
    if add "$1" "$T/kprobe_events"; then
        probes=$((probes + 1))
        note "probe $1"
    else
        [ -n "${2-}" ] || { refused=$((refused + 1)); say "refused by the kernel: $1"; note "refused $1"; }
        return 1
    fi
}
set_probes() {
    probes=0 refused=0 missing='' filtered='' stacked='' max_active=256
    [ -z "$minimal" ] || max_active=64
    all_functions set_function
    note "missing$missing"
    [ $probes -gt 0 ] || die "the kernel takes no probe: it has none of the functions, or" \
        "refuses kprobes (lockdown? CONFIG_KPROBE_EVENTS_ON_NOTRACE? see dmesg)"
    # Lowmem needs no mapping, but its unmaps come here too, a flood. The windows of mappings are
    # at the top of the address space on these machines; below the direct map is ARM's pool.
    case $arch in
        i386 | powerpc) filter='vaddr >= 0xff000000' ;;
        mips) filter='vaddr >= 0xc0000000' ;;
        arm) # PAGE_OFFSET begins as the kernel's own address, which is right above
            start=$(grep -m1 -E ' [tT] (_text|_stext)$' "$proc/kallsyms")
            filter="vaddr >= 0xff000000 || vaddr < 0x${start%"${start#?}"}0000000"
            ;;
        *) filter='' ;;
    esac
    for event in $filtered; do
        [ -n "$filter" ] && put "$filter" "$I/events/$group/$event/filter" &&
            note "filter $event $filter"
    done
}
enable_events() { # $events: the tracepoints that there are
    events=''
    for event in sched/sched_switch vmalloc/alloc_vmap_area vmalloc/free_vmap_area_noflush \
        vmalloc/purge_vmap_area_lazy cpuhp/cpuhp_enter cpuhp/cpuhp_multi_enter cpuhp/cpuhp_exit \
        module/module_load module/module_free; do
        case $minimal$event in 1sched*) continue ;; esac
        [ -d "$I/events/$event" ] || { note "no tracepoint $event"; continue; }
        put 1 "$I/events/$event/enable" || trouble "cannot enable $event"
        events="$events $event"
    done
    [ -n "$minimal" ] || stacks
    put 1 "$I/events/$group/enable" && return
    # one that cannot be armed stops the others of the group: one by one then
    for event in "$I/events/$group"/*/enable; do
        put 1 "$event" || trouble "cannot arm ${event#"$I/events/"}"
    done
}
# Kernels before 5.18 put the stacks of a trigger into the top buffer, not into this one's: one
# fork shows where they come, before they are used.
stacks() {
    try=$I/events/sched/sched_process_fork
    { put stacktrace "$try/trigger" && put 1 "$I/tracing_on"; } || return
    (:)
    put 0 "$I/tracing_on"
    put '!stacktrace' "$try/trigger"
    if grep -q '<stack trace>' "$I/trace" 2>/dev/null; then
        for event in $stacked; do
            put stacktrace:1000 "$I/events/$group/$event/trigger" && note "stacks $event"
        done
    fi
    : >"$I/trace"
}

# The pool's counters, where the kernel's symbols name its data (CONFIG_KALLSYMS_ALL): a probe on
# what this shell calls by reading /proc/uptime fetches them, into a trace instance of their own.
pool_symbols() { # $last: symbol of last_pkmap_nr; $slots of the pool
    last='' begin='' end='' slots=512
    while read -r address _ name _; do
        [ -z "$begin" ] || [ -n "$end" ] || end=$address
        case $name in last_pkmap_nr*) last=$name ;; pkmap_count) begin=$address ;; esac
    done <<EOF
$(grep -E -A1 ' [bBdD] (pkmap_count|last_pkmap_nr[.0-9]*)$' "$proc/kallsyms")
EOF
    [ -n "$last" ] && [ -n "$end" ] || return
    [ $((0x$end - 0x$begin)) -lt 4096 ] || slots=1024
}
pool_probe() { # $P
    pool_symbols || return
    slot=0 fetch=" last=@$last:u32"
    while [ $slot -lt $slots ]; do
        fetch="$fetch c$slot=@pkmap_count+$((4 * slot)):u32[64]"
        slot=$((slot + 64))
        [ $((slot % 512)) -eq 0 ] || continue # what one event can hold
        add "p:${group}_pool/slots$slot uptime_proc_show$fetch" "$T/kprobe_events" || return
        fetch=''
    done
    mkdir "$T/instances/${group}_pool" 2>/dev/null || return
    P=$T/instances/${group}_pool
    put 0 "$P/tracing_on" && put 64 "$P/buffer_size_kb" && put 1 "$P/events/${group}_pool/enable"
}

# ---------------------------------------------------------------- files of the machine

machine_files() {
    for file in cmdline cpuinfo iomem modules version; do
        copy $file "$proc/$file" || say "no $file"
    done
    uname -snrm >"$work/uname"
    # Symbols of functions: some 2 MB instead of 10. Addresses of zero are of no use.
    grep -E '^[0-9a-f]*[1-9a-f][0-9a-f]* [tTwW] ' "$proc/kallsyms" >"$work/kallsyms" 2>/dev/null
    [ -s "$work/kallsyms" ] || { rm -f "$work/kallsyms"; say "no addresses in kallsyms"; }
    release=$(uname -r)
    copy config.gz "$proc/config.gz" || copy config "$root/boot/config-$release" ||
        copy config "$root/lib/modules/$release/config" ||
        copy config "$root/lib/modules/$release/build/.config" ||
        say "no kernel configuration (CONFIG_IKCONFIG_PROC): put the .config into the capture"
    dmesg 2>/dev/null >"$work/dmesg"
    copy trace_clock "$I/trace_clock"
    copy cpus_online "$root/sys/devices/system/cpu/online"
    copy header_page "$I/events/header_page" || copy header_page "$T/events/header_page"
    copy header_event "$I/events/header_event" || copy header_event "$T/events/header_event"
}
formats() { # of the events; they are gone when the probes are
    copy "formats.$group" "$T/events/$group"/*/format
    copy formats.ftrace "$T"/events/ftrace/*/format
    for event in $events; do
        cat "$T/events/$event/format" >>"$work/formats.${event%/*}"
    done
}
memory_files() { # what their names end with
    for file in meminfo zoneinfo buddyinfo slabinfo; do
        copy "$file$1" "$proc/$file"
    done
}
# The areas in use, right before recording begins. /proc/vmallocinfo is read in pieces: an area
# that goes or comes meanwhile skips or repeats lines; two readings that agree are one moment.
# Nothing here forks: a fork allocates areas.
start_state() { # $profile $reading
    reading='' tries=0 agreed=no
    slurp "$T/kprobe_profile"
    profile=$reading reading=''
    while [ -r "$proc/vmallocinfo" ] && [ $tries -lt 10 ] && [ $agreed = no ]; do
        before=$reading
        slurp "$proc/vmallocinfo"
        tries=$((tries + 1))
        [ "$before" != "$reading" ] || agreed=yes
    done
    [ -z "$P" ] || { put 1 "$P/tracing_on"; now; put 0 "$P/tracing_on"; }
}
end_state() {
    for cpu in $cpus; do
        echo "== $cpu"
        cat "$I/per_cpu/$cpu/stats"
    done >"$work/stats"
    copy saved_cmdlines "$T/saved_cmdlines"
    memory_files .end
    for file in vmstat vmallocinfo modules; do copy $file.end "$proc/$file"; done
    grep '\[' "$proc/kallsyms" >"$work/kallsyms.end" 2>/dev/null
    dmesg 2>/dev/null >"$work/dmesg.end"
    cat "$proc"/[0-9]*/status 2>/dev/null | grep -E '^(Name|Pid|PPid|VmPeak|VmSize|VmRSS):' \
        >"$work/status.end"
}

# ---------------------------------------------------------------- the ring buffers

buffer_size() { # $cpus; $kb of each one's buffer
    set -- "$I"/per_cpu/cpu*
    cpus=''
    for dir in "$@"; do cpus="$cpus ${dir##*/}"; done
    if [ -n "$buffer" ]; then
        in_kb "$buffer"
        kb=$size_kb
    else # the buffer lies in lowmem
        free=0 most=32768
        while read -r key value _; do
            case $key in LowFree:) free=$value; break ;; MemFree:) free=$value ;; esac
        done <"$proc/meminfo"
        kb=$((free / 8 / $#))
        [ -z "$minimal" ] || most=8192
        [ $kb -le $most ] || kb=$most
        [ $kb -ge 512 ] || kb=512
    fi
    until put "$kb" "$I/buffer_size_kb"; do
        kb=$((kb / 2))
        [ $kb -ge 64 ] || die "no memory for the trace buffer"
    done
    note "buffer_kb $kb"
}
page_size() { # $page and $payload: bytes of a page, and how many of them events can have
    page=0 payload=0
    while IFS=':; 	' read -r _ _ name _ offset _ length _; do
        [ "$name" != data ] || { payload=$length page=$((offset + length)); }
    done <"$work/header_page"
    if [ "$payload" -le 0 ] || ! have dd || [ ! -r "$I/per_cpu/${cpus##* }/trace_pipe_raw" ]; then
        [ -n "$text" ] || say "pages of the buffer cannot be had: the trace is recorded as text"
        text=1
    fi
}
size_limit() { # $max_kb: a third of the disk that the capture is made on, where df tells
    if [ -n "$max_size" ]; then
        in_kb "$max_size"
        max_kb=$size_kb
    else
        max_kb=$(df -Pk "$work" 2>/dev/null | grep -oE '[0-9]+ +[0-9]+%' | grep -oE '^[0-9]+')
        max_kb=$((${max_kb:-90000000} / 3))
    fi
    size=0 full=''
}
counters() { # CPU: what the kernel counts of it: $entries and $bytes to be read, $taken, $gone lost
    entries=0 bytes=0 taken=0 gone=0
    while read -r key value rest; do
        case $key in
            entries:) entries=$value ;;
            bytes:) bytes=$value ;;
            overrun:) gone=$((gone + value)) ;;
            dropped | commit) gone=$((gone + ${rest%% *})) ;; # "dropped events: N"
            read) taken=$rest ;;
        esac
    done <"$I/per_cpu/$1/stats"
}
disk_full() { full=1 stop=${stop:-full}; }

# Reads as many pages as the buffer certainly holds, so that no reader ever waits: each read gives
# one page with at most $payload bytes of events.
pull() { # CPU, and how many pages it must have
    counters "$1"
    pages=$((bytes / payload))
    if [ $pages -lt 0 ] || [ $pages -gt $((kb * 1024 / payload + 2)) ]; then
        pages=$((entries * 16 / payload)) # bytes is wrong; an event has 16 at least
    fi
    [ $pages -ge "$2" ] && [ "$entries" -gt 0 ] || return 0
    [ $pages -gt 0 ] || pages=1
    # Ctrl-C reaches every process of a terminal: what was read is written all the same
    (trap '' INT HUP; dd if="$I/per_cpu/$1/trace_pipe_raw" bs=$page count=$pages \
        2>/dev/null >>"$work/trace_pipe_raw.$1") || { disk_full; return 1; }
    size=$((size + pages * page / 1024)) pulled=1
}
pull_all() { # recording is off: until nothing is left
    for cpu in $cpus; do
        was=''
        while counters "$cpu"; [ "$entries" -gt 0 ] && [ "$entries" != "$was" ]; do
            was=$entries
            pull "$cpu" 0 || return
        done
        [ "$entries" -eq 0 ] || trouble "$entries events of $cpu could not be read"
    done
}
read_text() { # recording is off: the file ends where the buffers do, however slow the machine is
    cat "$I/trace" 2>/dev/null >"$work/trace.txt" || disk_full
}
look() { # while recording: take away what fills more than a third of a buffer, else wait
    pulled='' held=0
    for cpu in $cpus; do
        if [ -n "$text" ]; then
            counters "$cpu"
            held=$((held + entries / 8)) # some 128 bytes each
            [ $((bytes / 1024)) -lt $((kb * 2 / 3)) ] || stop=${stop:-buffer}
        else
            pull "$cpu" $((kb * 1024 / 3 / payload + 1)) || return
            [ -n "$pulled" ] || held=$((held + pages * page / 1024))
        fi
    done
    [ $((size + held)) -lt "$max_kb" ] || stop=${stop:-size}
    # a small buffer is full soon; not every sleep knows parts of a second
    [ -n "$stop$pulled" ] || { [ "$kb" -lt 8192 ] && sleep 0.2 2>/dev/null; } || sleep 1
}
losses() { # by the kernel's own count, before the buffers go
    lost=0 whose='' events=$size
    for cpu in $cpus; do
        counters "$cpu"
        [ $gone -eq 0 ] || whose="$whose $cpu $gone"
        lost=$((lost + gone)) events=$((events + entries + taken))
    done
    note "lost $lost$whose"
    [ $events -gt 0 ] || trouble "nothing was recorded: no function with a probe was called"
    [ $lost -eq 0 ] || trouble "$lost events were lost (${whose# }): buffers of $kb kB were full;" \
        "a larger --buffer, --minimal, or less load"
}

# ---------------------------------------------------------------- recording

freeze() { # no event from here on, and what the kernel counted until then
    first_line "$I/tracing_on" && [ "$line" = 1 ] || return 0
    put 0 "$I/tracing_on"
    slurp "$T/kprobe_profile"
    write "$reading" kprobe_profile
}
run() { # WHAT COMMAND...: in the background; WHAT is done as soon as it ends
    at_end=$1
    shift
    (
        trap 'kill $job 2>/dev/null' TERM
        "$@" </dev/null >&2 &
        job=$!
        wait $job
        status=$?
        now
        $at_end
        echo "$status $time" >"$work/command"
    ) &
    child=$!
}
timed() { # COMMAND...: without recording: $took
    now
    began=$time
    run : "$@"
    wait $child
    child=''
    read -r _ time <"$work/command"
    took=$((time - began))
}
settings() { # that have to be put back
    if first_line "$proc/sys/kernel/kptr_restrict" && [ "$line" != 1 ]; then
        # 0 shows hashes instead of the addresses in vmallocinfo, 2 zeros
        old_kptr=$line
        remember
        put 1 "$proc/sys/kernel/kptr_restrict" || { old_kptr=''; trouble "kptr_restrict stays $line"; }
    fi
    if first_line "$T/saved_cmdlines_size" && [ "$line" -lt 4096 ]; then
        old_comms=$line
        remember
        put 4096 "$T/saved_cmdlines_size" || old_comms=''
    fi
    # clocks of CPUs that do not agree make a wrong order of events
    set -- "$T"/per_cpu/cpu*
    first_line "$root/sys/devices/system/clocksource/clocksource0/current_clocksource"
    if [ "$arch" = i386 ] && [ $# -gt 1 ] && [ -n "$line" ] && [ "$line" != tsc ]; then
        put global "$I/trace_clock" || trouble "the trace clock stays local"
    fi
}

record() {
    registers
    need_tracefs
    [ ! -d "$T/instances/$group" ] || die "another recorder is running, or was killed:" \
        "sh hmrecord.sh --remove puts away what it left"
    open_work
    others
    find_symbols
    mkdir "$T/instances/$group" 2>/dev/null || die "no trace instance can be made" \
        "(another recorder, or no memory)"
    own_instance=1 I=$T/instances/$group
    remember
    put 0 "$I/tracing_on" || die "$T cannot be written"
    settings
    machine_files
    if [ -n "$overhead" ]; then
        say "running the command without recording"
        timed "$@"
        note "before_cs $took"
        unrecorded=$took
    fi
    buffer_size
    page_size
    size_limit
    set_probes
    enable_events
    pool_probe
    formats
    memory_files ''
    copy vmstat.start "$proc/vmstat"
    copy kprobe_events "$T/kprobe_events"
    say "recording: $probes probes, $refused refused, buffers of $kb kB on$cpus"
    phase=recording
    start_state
    put 1 "$I/tracing_on" || die "recording cannot be turned on"
    now
    began=$time
    write "$reading" vmallocinfo.start
    write "$profile" kprobe_profile.start
    [ -z "$P" ] || copy pool_state "$P/trace"
    note "snapshot agreed=$agreed readings=$tries"
    note "began_cs $began"
    case $agreed$tries in
        no0) trouble "no /proc/vmallocinfo: areas at the start are not known" ;;
        no*) trouble "vmallocinfo never stood still: areas at the start are not certain" ;;
    esac
    [ $# -eq 0 ] || run freeze "$@"
    while [ -z "$stop" ]; do
        now
        if [ $# -gt 0 ] && ! kill -0 $child 2>/dev/null; then
            stop='command'
        elif [ -n "$seconds" ] && [ $((time - began)) -ge $((seconds * 100)) ]; then
            stop='time'
        else
            look
        fi
    done
    finish "$@"
}
finish() {
    [ "$stop" = command ] || freeze # else its end did
    disarm "$I" # before anything is copied: an armed probe counts on, and slows the copying
    phase=ending
    now
    note "ended_cs $time"
    note "stopped $stop"
    if [ -n "$child" ]; then
        kill -0 $child 2>/dev/null && kill -TERM $child
        wait $child
        child='' with=0
        if read -r status time <"$work/command"; then
            with=$((time - began))
            note "command_status $status"
            note "recorded_cs $with"
        fi
    fi
    if [ -n "$text" ]; then read_text; else pull_all; fi
    losses
    case $stop in
        size) trouble "ended early: the trace has $max_kb kB (--max-size)" ;;
        buffer) trouble "ended early: text is what buffers of $kb kB hold (--buffer, or no --text)" ;;
    esac
    [ -z "$full" ] || trouble "the disk is full: the end of the trace is missing"
    end_state
    cleanup
    phase=packing
    if [ -n "$overhead" ] && [ "$stop" = command ]; then
        timed "$@"
        note "after_cs $took"
        say "overhead: without $((unrecorded * 10)) ms and $((took * 10)) ms, recorded $((with * 10)) ms"
    fi
    rm -f "$work/command"
    pack
}

# ---------------------------------------------------------------- putting everything back

disarm() { # INSTANCE
    put 0 "$1/tracing_on"
    for events in "$1/events/$group/enable" "$1/events/enable"; do
        [ ! -e "$events" ] || put 0 "$events"
    done
}
remove_instance() {
    [ -d "$1" ] || return 0
    disarm "$1"
    for trigger in "$1/events/$group"/*/trigger; do # an event with one is in use
        [ ! -e "$trigger" ] || put '!stacktrace' "$trigger"
    done
    for _ in 1 2 3 4 5; do
        rmdir "$1" 2>/dev/null && return
        sleep 1
    done
    trouble "$1 is in use and stays: --remove"
}
remove_probes() {
    [ -r "$T/kprobe_events" ] || return 0
    names=''
    while read -r definition _; do
        case $definition in *:"$group"/* | *:"${group}_pool"/*) names="$names ${definition#*:}" ;; esac
    done <"$T/kprobe_events"
    for name in $names; do
        add "-:$name" "$T/kprobe_events" || trouble "the probe $name could not be removed"
    done
}
cleanup() { # safe to be called twice
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
    if [ -n "$own_instance" ]; then
        remove_instance "$T/instances/$group"
        remove_instance "$T/instances/${group}_pool"
        remove_probes
    fi
    [ -z "$old_kptr" ] || put "$old_kptr" "$proc/sys/kernel/kptr_restrict" ||
        trouble "kptr_restrict could not be set back to $old_kptr"
    [ -z "$old_comms" ] || put "$old_comms" "$T/saved_cmdlines_size" ||
        trouble "saved_cmdlines_size could not be set back to $old_comms"
    [ -z "$mounted" ] || umount "$mounted" 2>/dev/null || say "$mounted stays mounted"
    [ -z "$remembered" ] || rm -f "$state" # never that of another recorder
    child='' own_instance='' old_kptr='' old_comms='' mounted='' remembered=''
}
at_exit() {
    status=$?
    trap '' INT TERM HUP PIPE
    trap - EXIT
    cleanup
    [ "$phase" != packing ] || rm -f -- "$out.part"
    [ -z "$work" ] || [ -n "$keep_work" ] || rm -rf "$work"
    exit "$status"
}
on_signal() { # the first ends the recording, and what there is is kept; others end all
    trap '' PIPE # stderr may be what went away
    [ "$phase$stop" != recording ] || { stop=signal; return; }
    say "interrupted ($1): everything is put back"
    [ "$phase" != packing ] || [ "$out" = - ] || keep_folder
    exit 3
}
remove() {
    find_tracefs || die "no tracefs: nothing can be left"
    if [ -r "$state" ]; then
        read -r pid old_kptr old_comms place folder <"$state"
        ! kill -0 "$pid" 2>/dev/null || die "a recorder is running (process $pid): end it first"
        old_kptr=${old_kptr#.} old_comms=${old_comms#.}
        mounted=${mounted:-${place#.}}
    fi
    remembered=1 own_instance=1
    cleanup
    [ $troubles -eq 0 ] || exit 3
    say "nothing of a recorder is left"
    [ ! -e "${folder:-}/recorder" ] || say "but what it had recorded: $folder"
}

# ---------------------------------------------------------------- the capture

open_work() { # $work: beside the archive, where there is room for it
    case $out in
        -) place=${TMPDIR:-$root/tmp} ;;
        */) place=${out%/} ;;
        */*) place=${out%/*} ;;
        *) place=. ;;
    esac
    case $out in */) mkdir -p "$place" 2>/dev/null ;; esac
    [ -w "$place" ] || die "$place cannot be written"
    case $out in
        */) [ -z "$(ls -A "$place")" ] || die "$place is not empty" ;;
        *) place=$place/hmrecord.$$; mkdir "$place" || die "$place cannot be written" ;;
    esac
    work=$place
    note "recorder @VERSION@"
    note "arch $arch"
    note "uname $(uname -a)"
    note "date $(date -u '+%Y-%m-%dT%H:%M:%SZ' 2>/dev/null)"
    [ -z "$minimal" ] || note minimal
}
keep_folder() {
    keep_work=1
    say "the capture stays as the folder $work"
}
archive() { # to file descriptor 4; a pipe's status is its last program's, so tar's goes by another way
    packed=$({ { (cd "$work/.." && tar cf - "${work##*/}"); echo $? >&3; } | $zip >&4; } 3>&1) &&
        [ "$packed" = 0 ]
}
pack() {
    for file in "$work"/*; do
        [ -s "$file" ] || rm -f "$file"
    done
    zip='cat'
    case $out in
        */) keep_folder; return ;;
        *gz | -) if have gzip; then zip='gzip -1'; else say "no gzip: not compressed"; fi ;;
    esac
    if [ "$out" = - ]; then
        { archive; } 4>&1 || die "the capture could not be written to stdout"
    elif { archive; } 4>"$out.part" && mv "$out.part" "$out"; then
        say "the capture is $out"
    else
        trouble "no room for $out"
        keep_folder
    fi
}

# ---------------------------------------------------------------- what this kernel offers

check_function() { # EVENT KIND ENTRY RETURN SYMBOL...
    wanted "$2" || return 0
    shift 4
    if symbol_of "$@"; then echo "  yes  $symbol"; else echo "  no   $1"; fi
}
check() {
    registers
    uname -a
    echo "architecture $arch: arguments in $a1 $a2 $a3 $a4"
    [ "$(id -u 2>/dev/null)" = 0 ] || echo "not root: recording needs it"
    need_tracefs
    others
    echo "tracefs: ${T#"$root"}${mounted:+ (mounted for this check)}"
    first_line "$proc/sys/kernel/kptr_restrict" && echo "kptr_restrict: $line (1 while recording)"
    for file in vmallocinfo iomem zoneinfo buddyinfo vmstat slabinfo config.gz; do
        [ -r "$proc/$file" ] || echo "no /proc/$file"
    done
    for tool in dd tar gzip grep sed cat dmesg df; do
        have $tool || echo "no $tool"
    done
    for event in sched/sched_switch vmalloc/alloc_vmap_area cpuhp/cpuhp_enter; do
        [ -d "$T/events/$event" ] || echo "no tracepoint $event"
    done
    find_symbols
    pool_symbols || echo "no symbols of data (CONFIG_KALLSYMS_ALL): the pool's state at the start" \
        "is told by its first calls"
    echo "functions to probe (a missing one is of another kernel, inlined, or not built):"
    all_functions check_function
}

# ---------------------------------------------------------------- options

wrong() {
    echo "hmrecord: $*" >&2
    exit 2
}
size_or_wrong() { # OPTION SIZE
    case ${2%[kKmMgG]} in # a shell reads 010 as eight
        '' | 0* | *[!0-9]* | ????????????*) wrong "$1 $2: no size (512K, 64M, 1G)" ;;
    esac
}
main() {
    while [ $# -gt 0 ]; do
        case $1 in
            -o | -t | --max-size | --buffer)
                [ $# -ge 2 ] || { usage >&2; exit 2; }
                case $1 in
                    -o) out=$2 ;;
                    -t) seconds=$2 ;;
                    --buffer) buffer=$2 ;;
                    *) max_size=$2 ;;
                esac
                shift
                ;;
            --minimal) minimal=1 ;;
            --overhead) overhead=1 ;;
            --text) text=1 ;;
            --check | --remove) action=${1#--} ;;
            -h | --help) usage; exit 0 ;;
            --) shift; break ;;
            *) usage >&2; exit 2 ;;
        esac
        shift
    done
    case $seconds in *[!0-9]* | 0*) wrong "-t $seconds: whole seconds are needed" ;; esac
    [ -z "$max_size" ] || size_or_wrong --max-size "$max_size"
    [ -z "$buffer" ] || size_or_wrong --buffer "$buffer"
    [ -z "$seconds" ] || [ $# -eq 0 ] || wrong '-t or a command, not both'
    [ -z "$overhead" ] || [ $# -gt 0 ] || wrong '--overhead needs a command'
    [ -n "$out" ] || wrong '-o needs a name'
    state=$root/tmp/hmrecord.state
    [ ! -w "$root/run" ] || state=$root/run/hmrecord.state
    trap at_exit EXIT
    for signal in INT TERM HUP PIPE; do
        # shellcheck disable=SC2064  # the name is wanted now
        trap "on_signal $signal" $signal
    done
    case $action in
        check) check ;;
        remove) remove ;;
        record) record "$@" ;;
    esac
    [ $troubles -eq 0 ] || exit 1
    exit 0
}

main "$@"
