#!/bin/sh
# hmrecord.sh: records what a 32-bit Linux machine maps of its high memory.
# Written by hmtrace @VERSION@. Any POSIX shell (busybox ash, dash), as root, CONFIG_KPROBE_EVENTS.
#
# It sets probes in a trace instance of its own, notes the state they start from, records, and
# takes every one of them away again, whatever happens. The capture is a folder in a tar file;
# `hmtrace info FILE` tells what it can answer.
# shellcheck disable=SC2015,SC2209,SC2317  # A && B || die; words, no commands; traps call functions

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
  --overhead       run COMMAND without recording before and after, and note what recording costs
  --max-size SIZE  end when the trace has this size (64M, 1G); else a third of the free disk
  --text           the trace as text, not as pages of the ring buffer
  --check          say what this kernel offers and what will be missing; record nothing
  --remove         put away what a recorder left behind that was killed

Exit status: 0 recorded; 1 recorded, but ended early or with losses; 2 wrong usage; 3 not recorded.
EOF
}

root=${HMRECORD_ROOT:-}          # for tests: where /proc, /sys, /boot and /run are looked for
proc=$root/proc
group=hmrecord                   # of the probes, and the name of the trace instance
out=hmrecord.tar.gz seconds='' minimal='' overhead='' max_size='' text='' action=record
T='' I='' mounted='' old_kptr='' old_comms='' state='' work='' keep_work=''
nl='
'
phase=begin stop='' troubles=0 own_instance='' child='' remembered='' unrecorded='' full='' with=0

# ---------------------------------------------------------------- what it says

note() { # into the capture, in the form "WORD VALUE..."
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
# Each write to tracefs may be refused; a shell writes the line at once, so its status tells.
put() { { printf '%s\n' "$1" >"$2"; } 2>/dev/null; }
add() { { printf '%s\n' "$1" >>"$2"; } 2>/dev/null; }
first_line() { # FILE: into $line, without a fork
    line=''
    [ -r "$1" ] && { read -r line <"$1"; } 2>/dev/null
    [ -n "$line" ]
}
copy() { # NAME FILE...: into the capture; an empty file is not kept
    copy_to=$work/$1
    shift
    cat "$@" 2>/dev/null >"$copy_to"
    copied=$?
    [ -s "$copy_to" ] || rm -f "$copy_to"
    return $copied
}
now() { # centiseconds since boot: into $time
    read -r time _ <"$proc/uptime"
    time=${time%.*}${time#*.}
    time=${time#"${time%%[!0]*}"}
    time=${time:-0}
}

# ---------------------------------------------------------------- the tracing file system

find_tracefs() {
    debug=$root/sys/kernel/debug # before Linux 4.1
    for T in "$root/sys/kernel/tracing" "$debug/tracing"; do
        [ -e "$T/trace" ] && return 0
    done
    for place in "$root/sys/kernel/tracing" "$debug"; do
        T=$place kind=tracefs
        [ "$place" != "$debug" ] || { T=$debug/tracing kind=debugfs; }
        { [ -d "$place" ] && mount -t $kind hmrecord "$place" 2>/dev/null; } || continue
        mounted=$place
        [ "$action" = remove ] || remember
        [ -e "$T/trace" ] && return 0
        umount "$mounted" && mounted=''
    done
    return 1
}
need_tracefs() {
    [ -d "$root/sys/kernel" ] || die "there is no /sys/kernel: mount sysfs first"
    find_tracefs || die "no tracefs: it cannot be mounted at /sys/kernel/tracing" \
        "(CONFIG_FTRACE and CONFIG_KPROBE_EVENTS are needed, and root)"
    [ -e "$T/kprobe_events" ] || die "this kernel has no kprobe events (CONFIG_KPROBE_EVENTS)"
    [ -d "$T/instances" ] || die "this kernel has no trace instances (Linux 3.10 has)"
}

remember() { # what has to be put back, for --remove after a SIGKILL
    remembered=1
    case $work in /*) place=$work ;; *) place=$PWD/$work ;; esac
    put "$$ ${old_kptr:-.} ${old_comms:-.} ${mounted:-.} $place" "$state"
}

# ---------------------------------------------------------------- probes

# Arguments 1 to 4 of a function at its entry, and where it returns to.
registers() {
    arch=$(uname -m)
    # shellcheck disable=SC2016  # $stack1 is the kernel's
    case $arch in
        i?86) arch=i386 a1=%ax a2=%dx a3=%cx a4='$stack1' ra='$stack0' ;;
        arm*) arch=arm a1=%r0 a2=%r1 a3=%r2 a4=%r3 ra=%lr ;;
        *64*) die "$arch is a 64-bit machine: it has no high memory" ;;
        mips*) arch=mips a1=%r4 a2=%r5 a3=%r6 a4=%r7 ra=%r31 ;;
        ppc*) arch=powerpc a1=%gpr3 a2=%gpr4 a3=%gpr5 a4=%gpr6 ra=%link ;;
        csky*) arch=csky a1=%a0 a2=%a1 a3=%a2 a4=%a3 ra=%lr ;;
        *) a1='$arg1' a2='$arg2' a3='$arg3' a4='$arg4' ra='' ;;
    esac
}

# The functions that hmtrace understands, generated from collectors/probes.py:
# event, kind (l: local mappings, the many; o: of kernels before 5.11; u: unmaps of any address;
# s: rare, with stacks),
# its symbols over the kernels, arguments at entry and at return (-: no such probe).
functions() {
    while read -r event kind symbols entry result; do
        [ -n "$event" ] || continue
        case $minimal$modern$kind in 1*l* | *m*o*) continue ;; esac
        case $1 in set) set_one ;; check) check_one ;; esac
    done <<EOF
@PROBES@
EOF
}

# Symbols of this kernel that are of interest, in one pass; compilers add .constprop.0 and others.
find_symbols() {
    [ -r "$proc/kallsyms" ] || return 1
    pattern='@PATTERN@'
    found=$(grep -E "^[0-9a-f]* [tTwW] ($pattern)(\.(constprop|isra|part)\.[0-9]*)*\$" "$proc/kallsyms" |
        while read -r _ _ name _; do echo "$name"; done)
    known=$nl$found$nl
    # where kmap_local is, kmap_atomic is a wrapper of it, if it is a function at all
    modern=''
    case $known in *"${nl}__kmap_local_pfn_prot$nl"*) modern=m ;; esac
}
split() { # A,B: into $words, without values in a register that is not known
    IFS=,
    # shellcheck disable=SC2086  # it is to be split
    set -- $1
    unset IFS
    words=''
    for word in "$@"; do
        case $word in . | *=:*) ;; *) words="$words $word" ;; esac
    done
}
symbol_of() { # NAMES with commas: into $symbol, the first that this kernel has
    split "$1"
    for name in $words; do
        for suffix in '' .constprop .isra .part; do
            case $suffix in '') end=$nl ;; *) end=. ;; esac
            case $known in *"$nl$name$suffix$end"*) ;; *) continue ;; esac
            symbol=${known#*"$nl$name$suffix"}
            symbol=$name$suffix${symbol%%"$nl"*}
            return 0
        done
    done
    return 1
}

set_one() { # a function's probes, line by line: what a kernel refuses fails alone
    if ! symbol_of "$symbols"; then
        missing="$missing ${symbols%%,*}"
        return
    fi
    split "$entry"
    if set_line "p:$group/$event $symbol$words"; then
        case $kind in
            *u*) filtered="$filtered $event" ;;
            *s*) stacked="$stacked $event" ;;
        esac
    fi
    [ "$result" = - ] && return
    split "$result"
    # many calls are in flight in a function that sleeps; many slots lose no return
    set_line "r$max_active:$group/${event}_ret $symbol$words" quietly ||
        set_line "r:$group/${event}_ret $symbol$words"
}
set_line() {
    if add "$1" "$T/kprobe_events"; then
        note "probe $1"
        probes=$((probes + 1))
        return 0
    fi
    [ -n "${2-}" ] || { refused=$((refused + 1)); say "refused by the kernel: $1"; note "refused $1"; }
    return 1
}

set_probes() {
    probes=0 refused=0 missing='' filtered='' stacked='' max_active=256
    [ -z "$minimal" ] || max_active=64
    functions set
    note "missing$missing"
    [ $probes -gt 0 ] || die "the kernel takes no probe: it has none of the functions, or" \
        "refuses kprobes (lockdown? CONFIG_KPROBE_EVENTS_ON_NOTRACE? see dmesg)"
    # Lowmem needs no mapping, but its unmaps come here too, a flood. The windows of mappings are
    # at the top of the address space on these machines; below the direct map is ARM's pool.
    case $arch in
        i386 | powerpc) filter='vaddr >= 0xff000000' ;;
        mips) filter='vaddr >= 0xc0000000' ;;
        arm) filter="vaddr >= 0xff000000 || vaddr < 0x$(split_of)0000000" ;;
        *) filter='' ;;
    esac
    for event in $filtered; do
        { [ -n "$filter" ] && put "$filter" "$I/events/$group/$event/filter"; } || continue
        note "filter $event $filter"
    done
}
split_of() { # first digit of PAGE_OFFSET: of the kernel's own address, which is right above
    start=$(grep -m1 -E ' [tT] (_text|_stext)$' "$proc/kallsyms")
    echo "${start%"${start#?}"}"
}

enable_events() {
    for event in sched/sched_switch vmalloc/alloc_vmap_area vmalloc/free_vmap_area_noflush \
        vmalloc/purge_vmap_area_lazy cpuhp/cpuhp_enter cpuhp/cpuhp_multi_enter cpuhp/cpuhp_exit \
        module/module_load module/module_free; do
        case $minimal$event in 1sched*) continue ;; esac
        [ -d "$I/events/$event" ] || { note "no tracepoint $event"; continue; }
        put 1 "$I/events/$event/enable" || trouble "cannot enable $event"
        events="$events $event"
    done
    stacks
    put 1 "$I/events/$group/enable" && return
    # one that cannot be armed stops the others of the group: one by one then
    for event in "$I/events/$group"/*/enable; do
        put 1 "$event" || trouble "cannot arm ${event#"$I/events/"}"
    done
}

# Kernels before 5.18 put the stacks of a trigger into the top buffer, not into this one's:
# look before they are used.
stacks() {
    [ -z "$minimal" ] || return
    try=$I/events/sched/sched_process_fork
    { put stacktrace "$try/trigger" && put 1 "$I/tracing_on"; } || return
    (:)
    put 0 "$I/tracing_on"
    put '!stacktrace' "$try/trigger"
    grep -q '<stack trace>' "$I/trace" 2>/dev/null || stacked=''
    for event in $stacked; do
        put stacktrace:1000 "$I/events/$group/$event/trigger" && note "stacks $event"
    done
    : >"$I/trace"
}

# ---------------------------------------------------------------- what the machine says

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

# /proc/vmallocinfo is read in pieces: an area that goes or comes meanwhile skips or repeats lines.
# Two readings that agree are one moment. The shell reads by itself: a fork allocates areas.
slurp() { # FILE: into $reading, by pieces: to copy all of it for each line takes time and memory
    reading='' piece=''
    [ -r "$1" ] && while IFS= read -r line; do
        piece=$piece$line$nl
        [ ${#piece} -lt 2000 ] || { reading=$reading$piece; piece=''; }
    done <"$1"
    reading=$reading$piece
}
start_state() {
    reading='' tries=0 agreed=no
    slurp "$T/kprobe_profile"
    profile=$reading reading=''
    [ -r "$proc/vmallocinfo" ] || trouble "no /proc/vmallocinfo: areas at the start are not known"
    while [ -r "$proc/vmallocinfo" ] && [ $tries -lt 10 ]; do
        before=$reading
        slurp "$proc/vmallocinfo"
        tries=$((tries + 1))
        [ "$before" = "$reading" ] && { agreed=yes; break; }
    done
    [ -z "$P" ] || { put 1 "$P/tracing_on"; now; put 0 "$P/tracing_on"; }
}

# The pool's counters, where the kernel's symbols name its data (CONFIG_KALLSYMS_ALL): a probe on
# what this shell calls by reading /proc/uptime fetches them, into a trace instance of their own.
pool_probe() {
    P='' last='' begin='' end=''
    while read -r address _ name _; do
        [ -z "$begin" ] || [ -n "$end" ] || end=$address
        case $name in last_pkmap_nr*) last=$name ;; pkmap_count) begin=$address ;; esac
    done <<EOF
$(grep -E -A1 ' [bBdD] (pkmap_count|last_pkmap_nr[.0-9]*)$' "$proc/kallsyms")
EOF
    [ -n "$last" ] && [ -n "$end" ] || return
    slot=0 slots=512 fetch=" last=@$last:u32"
    [ $((0x$end - 0x$begin)) -lt 4096 ] || slots=1024
    while [ $slot -lt $slots ]; do # what one event can hold
        fetch="$fetch c$slot=@pkmap_count+$((4 * slot)):u32[64]"
        slot=$((slot + 64))
        [ $((slot % 512)) -eq 0 ] || continue
        add "p:${group}_pool/slots$slot uptime_proc_show$fetch" "$T/kprobe_events" || return
        fetch=''
    done
    mkdir "$T/instances/${group}_pool" 2>/dev/null || return
    P=$T/instances/${group}_pool
    put 0 "$P/tracing_on" && put 64 "$P/buffer_size_kb" && put 1 "$P/events/${group}_pool/enable"
}

# ---------------------------------------------------------------- recording

buffer_size() { # the ring buffer lies in lowmem: an eighth of what is free of it
    free=0
    while read -r key value _; do
        case $key in LowFree:) free=$value; break ;; MemFree:) free=$value ;; esac
    done <"$proc/meminfo"
    set -- "$I"/per_cpu/cpu*
    cpus=''
    for dir in "$@"; do cpus="$cpus ${dir##*/}"; done
    kb=$((free / 8 / $#))
    most=32768
    [ -z "$minimal" ] || most=8192
    [ $kb -le $most ] || kb=$most
    [ $kb -ge 512 ] || kb=512
    until put $kb "$I/buffer_size_kb"; do
        kb=$((kb / 2))
        [ $kb -ge 64 ] || die "no memory for the trace buffer"
    done
    note "buffer_kb $kb"
    # a page of the buffer and what of it is events
    page=0 payload=0
    while IFS=':; 	' read -r _ _ name _ offset _ length _; do
        [ "$name" != data ] || { payload=$length page=$((offset + length)); }
    done <"$work/header_page"
    if [ "$payload" -le 0 ] || ! have dd || [ ! -r "$I/per_cpu/${cpus##* }/trace_pipe_raw" ]; then
        [ -n "$text" ] || say "pages of the buffer cannot be had: the trace is recorded as text"
        text=1
    fi
}

counters() { # CPU: $entries and $bytes in its buffer, without a fork
    entries=0 bytes=0
    while read -r key value _; do
        case $key in entries:) entries=$value ;; bytes:) bytes=$value ;; esac
    done <"$I/per_cpu/$1/stats"
}
# Reads as many pages as the buffer certainly holds, so that no reader ever waits: each read gives
# one page with at most $payload bytes of events.
pull() { # CPU, and how many pages it must have
    counters "$1"
    pages=$((bytes / payload))
    if [ $pages -lt 0 ] || [ $pages -gt $((kb * 1024 / payload + 2)) ]; then
        pages=$((entries * 16 / payload)) # an event has 16 bytes at least
    fi
    [ $pages -ge "$2" ] || return 0
    [ "$entries" -gt 0 ] || return 0
    [ $pages -gt 0 ] || pages=1
    # Ctrl-C reaches every process of a terminal: what was read is written all the same
    if ! (trap '' INT; dd if="$I/per_cpu/$1/trace_pipe_raw" bs=$page count=$pages \
        2>/dev/null >>"$work/trace_pipe_raw.$1"); then
        full=1 stop=${stop:-full}
        return 1
    fi
    size=$((size + pages * page / 1024)) pulled=1
    [ $size -lt "$max_kb" ] || stop=${stop:-size}
}
pull_all() {
    for cpu in $cpus; do
        rounds=0
        counters "$cpu"
        while [ "$entries" -gt 0 ] && [ $rounds -lt 200 ]; do
            was=$entries
            pull "$cpu" 0 || return 1
            counters "$cpu"
            [ "$entries" -lt "$was" ] || break
            rounds=$((rounds + 1))
        done
        [ "$entries" -eq 0 ] || trouble "$entries events of $cpu could not be read"
    done
}
look() { # while recording: take away what fills more than a third of a buffer, else wait
    pulled='' held=0
    [ -n "$text" ] || for cpu in $cpus; do
        pull "$cpu" $((kb * 1024 / 3 / payload + 1)) || return
        held=$((held + pages * page / 1024))
    done
    [ -n "$pulled" ] || [ $((size + held)) -lt "$max_kb" ] || stop=${stop:-size}
    # a small buffer is full soon; not every sleep knows parts of a second
    [ -n "$stop$pulled" ] || { [ $kb -lt 8192 ] && sleep 0.2 2>/dev/null; } || sleep 1
}

freeze() { # no event from here on, and what the kernel counted until then
    first_line "$I/tracing_on" && [ "$line" = 1 ] || return 0
    put 0 "$I/tracing_on"
    slurp "$T/kprobe_profile"
    printf '%s' "$reading" >"$work/kprobe_profile"
}
run() { # the command, its end noted at once, and recording stopped with it
    (
        trap 'kill $job 2>/dev/null' TERM
        "$@" </dev/null >&2 &
        job=$!
        wait $job
        status=$?
        now
        [ -z "$I" ] || freeze
        echo "$status $time" >"$work/command"
    ) &
    child=$!
}
timed() { # the command without recording: into $took
    now
    began=$time kept=$I I=''
    run "$@"
    I=$kept
    wait $child
    child=''
    read -r _ time <"$work/command"
    took=$((time - began))
}
size_limit() { # a third of the disk that the capture is made on, where df tells
    case $max_size in
        '') max_kb=$(df -Pk "$work" 2>/dev/null | grep -oE '[0-9]+ +[0-9]+%' | grep -oE '^[0-9]+')
            max_kb=$((${max_kb:-90000000} / 3)) ;;
        *[kK]) max_kb=${max_size%?} ;;
        *[mM]) max_kb=$((${max_size%?} * 1024)) ;;
        *[gG]) max_kb=$((${max_size%?} * 1048576)) ;;
        *) max_kb=$((max_size / 1024)) ;;
    esac
    size=0
}

record() {
    registers
    need_tracefs
    [ ! -d "$T/instances/$group" ] || die "another recorder is running, or was killed:" \
        "sh hmrecord.sh --remove puts away what it left"
    open_work
    others
    find_symbols || die "no /proc/kallsyms (CONFIG_KALLSYMS): functions cannot be found"
    mkdir "$T/instances/$group" 2>/dev/null || die "no trace instance can be made" \
        "(another recorder, or no memory)"
    own_instance=1 I=$T/instances/$group
    remember
    put 0 "$I/tracing_on" || die "$T cannot be written"
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
    clock
    machine_files
    if [ -n "$overhead" ]; then
        say "running the command without recording"
        timed "$@"
        note "before_cs $took"
        unrecorded=$took
    fi
    buffer_size
    size_limit
    set_probes
    events=''
    enable_events
    pool_probe
    formats
    memory_files ''
    copy vmstat.start "$proc/vmstat"
    copy kprobe_events "$T/kprobe_events"
    say "recording: $probes probes, $refused refused, buffers of $kb kB on$cpus"
    phase=recording
    start_state
    { printf '1\n' >"$I/tracing_on"; } 2>/dev/null || die "recording cannot be turned on"
    now
    began=$time
    printf '%s' "$reading" >"$work/vmallocinfo.start"
    printf '%s' "$profile" >"$work/kprobe_profile.start"
    [ -z "$P" ] || copy pool_state "$P/trace"
    note "snapshot agreed=$agreed readings=$tries"
    note "began_cs $began"
    [ -z "$text" ] || { cat "$I/trace_pipe" >>"$work/trace_pipe.txt" 2>/dev/null & reader=$!; }
    [ $# -eq 0 ] || run "$@"
    while [ -z "$stop" ]; do
        if [ $# -gt 0 ] && ! kill -0 $child 2>/dev/null; then
            stop=command
        elif [ -n "$seconds" ]; then
            now
            [ $((time - began)) -lt $((seconds * 100)) ] || stop=time
        fi
        [ -n "$stop" ] || look
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
        child=''
        if read -r status time <"$work/command"; then
            with=$((time - began))
            note "command_status $status"
            note "recorded_cs $with"
        fi
    fi
    if [ -n "$text" ]; then read_text; else pull_all; fi
    for cpu in $cpus; do
        echo "== $cpu"
        cat "$I/per_cpu/$cpu/stats"
    done >"$work/stats"
    copy saved_cmdlines "$T/saved_cmdlines"
    memory_files .end
    copy vmstat.end "$proc/vmstat"
    copy vmallocinfo.end "$proc/vmallocinfo"
    copy modules.end "$proc/modules"
    grep '\[' "$proc/kallsyms" >"$work/kallsyms.end" 2>/dev/null
    dmesg 2>/dev/null >"$work/dmesg.end"
    cat "$proc"/[0-9]*/status 2>/dev/null | grep -E '^(Name|Pid|PPid|VmPeak|VmSize|VmRSS):' \
        >"$work/status.end"
    cleanup
    phase=packing
    if [ -n "$overhead" ] && [ "$stop" = command ]; then
        timed "$@"
        note "after_cs $took"
        say "overhead: without $((unrecorded * 10)) ms and $((took * 10)) ms, recorded $((with * 10)) ms"
    fi
    losses
    pack
}
losses() {
    lost=0
    rm -f "$work/command"
    while read -r key value rest; do
        case $key in
            overrun:) lost=$((lost + value)) ;;
            dropped | commit) lost=$((lost + ${rest%% *})) ;;
        esac
    done <"$work/stats"
    [ $lost -eq 0 ] || trouble "$lost events were lost: buffers were full (--minimal, or less load)"
    [ "$stop" != size ] || trouble "ended early: the trace has $max_kb kB (--max-size)"
    [ -z "$full" ] || trouble "the disk is full: the end of the trace is missing"
    [ "$agreed$tries" != no10 ] || trouble "vmallocinfo never stood still: areas at the start are not certain"
    for file in "$work"/*; do
        [ -s "$file" ] || rm -f "$file"
    done
    note "lost $lost"
}
read_text() {
    # the reader ends by itself once recording is off and it has read something; where it never did
    # it waits for ever over empty buffers
    left=-1 was=''
    until [ "$left" = "$was" ] || ! kill -0 "$reader" 2>/dev/null; do
        was=$left left=0
        for cpu in $cpus; do
            counters "$cpu"
            left=$((left + entries))
        done
        sleep 2
    done
    kill "$reader" 2>/dev/null
    wait "$reader" 2>/dev/null
    reader=''
    [ $left -le 0 ] || trouble "$left events were not read: the end of the trace is missing"
}

# Clocks of CPUs that do not agree make a wrong order of events.
clock() {
    set -- "$T"/per_cpu/cpu*
    first_line "$root/sys/devices/system/clocksource/clocksource0/current_clocksource"
    if [ "$arch" = i386 ] && [ $# -gt 1 ] && [ -n "$line" ] && [ "$line" != tsc ]; then
        put global "$I/trace_clock" || trouble "the trace clock stays local"
    fi
}
others() { # who traces as well: not in the way, but it costs time
    first_line "$T/current_tracer" && [ "$line" != nop ] &&
        say "the tracer $line is active too: it costs time"
    first_line "$T/events/enable" && [ "$line" != 0 ] &&
        say "events are enabled in the top buffer too (by another tracer): they cost time"
    for dir in "$T"/instances/*; do
        [ -d "$dir" ] && say "there is another trace instance: ${dir##*/}"
    done
    case $arch in mips) say "kprobes of an unpatched MIPS kernel can panic under load" \
        "(\"Break instruction in kernel code\"): save your work" ;; esac
    grep -q '^HighTotal' "$proc/meminfo" 2>/dev/null ||
        say "this kernel has no high memory (CONFIG_HIGHMEM): only the arena can be recorded"
}

# ---------------------------------------------------------------- putting everything back

disarm() { # INSTANCE
    put 0 "$1/tracing_on"
    for events in "$1/events/$group/enable" "$1/events/enable"; do
        [ ! -e "$events" ] || put 0 "$events"
    done
}
remove_probes() {
    names=''
    [ -r "$T/kprobe_events" ] || return 0
    while read -r definition _; do
        case $definition in *:"$group"/* | *:"${group}_pool"/*) names="$names ${definition#*:}" ;; esac
    done <"$T/kprobe_events"
    for name in $names; do
        add "-:$name" "$T/kprobe_events" || trouble "the probe $name could not be removed"
    done
}
cleanup() { # safe to be called twice
    [ -z "$child" ] || { kill -TERM "$child" 2>/dev/null; child=''; }
    [ -z "${reader-}" ] || { kill "$reader" 2>/dev/null; reader=''; }
    if [ -n "$own_instance" ]; then
        for instance in "$T/instances/$group" "$T/instances/${group}_pool"; do
            [ -d "$instance" ] || continue
            disarm "$instance"
            for event in "$instance/events/$group"/*/trigger; do # one with a trigger is in use
                [ ! -e "$event" ] || put '!stacktrace' "$event"
            done
            for _ in 1 2 3 4 5; do
                rmdir "$instance" 2>/dev/null && break
                sleep 1
            done
            [ ! -d "$instance" ] || trouble "$instance is in use and stays: --remove"
        done
        remove_probes
        own_instance='' I=''
    fi
    [ -z "$old_kptr" ] || put "$old_kptr" "$proc/sys/kernel/kptr_restrict" ||
        trouble "kptr_restrict could not be set back to $old_kptr"
    [ -z "$old_comms" ] || put "$old_comms" "$T/saved_cmdlines_size" || true
    [ -z "$mounted" ] || umount "$mounted" 2>/dev/null || say "$mounted stays mounted"
    old_kptr='' old_comms='' mounted=''
    [ -z "$remembered" ] || rm -f "$state" # never that of another recorder
}
at_exit() {
    status=$?
    trap '' INT TERM HUP PIPE
    trap - EXIT
    cleanup
    [ "$phase" != packing ] || rm -f -- "$out.part" "$work.failed"
    [ -z "$work" ] || [ -n "$keep_work" ] || rm -rf "$work"
    exit "$status"
}
on_signal() { # the first ends the recording, and what there is is kept; others end all
    [ "$phase$stop" != recording ] || { stop=signal; return; }
    say "interrupted ($1): everything is put back"
    if [ "$phase" = packing ] && [ "$out" != - ]; then
        keep_work=1
        say "the capture stays as the folder $work"
    fi
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
    remembered=1
    own_instance=1
    cleanup
    [ $troubles -eq 0 ] || exit 3
    say "nothing of a recorder is left"
    [ ! -e "${folder:-}/recorder" ] || say "but what it had recorded: $folder"
}

# ---------------------------------------------------------------- the capture

open_work() { # beside the archive, where there is room for it
    case $out in
        -) place=${TMPDIR:-$root/tmp} ;;
        */) place=$out; work=${out%/} ;;
        */*) place=${out%/*} ;;
        *) place=. ;;
    esac
    if [ -n "$work" ]; then
        mkdir -p "$work" 2>/dev/null && [ -w "$work" ] || { bad=$work work=''; die "$bad cannot be written"; }
        [ -z "$(ls -A "$work")" ] || { bad=$work work=''; die "$bad is not empty"; }
    else
        [ -d "$place" ] && [ -w "$place" ] || die "$place cannot be written"
        work=$place/hmrecord.$$
        mkdir "$work" || { work=''; die "$place cannot be written"; }
    fi
    note "recorder @VERSION@"
    note "arch $arch"
    note "uname $(uname -a)"
    note "date $(date -u '+%Y-%m-%dT%H:%M:%SZ' 2>/dev/null)"
    [ -z "$minimal" ] || note minimal
}
pack() {
    case $out in */) keep_work=1; say "the capture is $work"; return ;; esac
    zip=cat
    case $out in *gz | -) if have gzip; then zip='gzip -1'; else say "no gzip: not compressed"; fi ;; esac
    dir=${work%/*} name=${work##*/}
    if [ "$out" = - ]; then
        (cd "$dir" && tar cf - "$name") | $zip || die "the capture could not be written"
        return
    fi
    # a name of its own until it is whole; the pipe's status is gzip's, so tar tells its own
    if (cd "$dir" && tar cf - "$name" || : >"$name.failed") | $zip >"$out.part" &&
        [ ! -e "$work.failed" ] && mv "$out.part" "$out"; then
        say "the capture is $out"
    else
        keep_work=1
        trouble "no room for $out: the capture stays as the folder $work"
    fi
}

# ---------------------------------------------------------------- what this kernel offers

check_one() {
    if symbol_of "$symbols"; then echo "  yes  $symbol"; else echo "  no   ${symbols%%,*}"; fi
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
    find_symbols || die "no /proc/kallsyms (CONFIG_KALLSYMS): functions cannot be found"
    echo "functions to probe (a missing one is of another kernel, inlined, or not built):"
    functions check
}

main() {
    while [ $# -gt 0 ]; do
        case $1 in
            -o | -t | --max-size)
                [ $# -ge 2 ] || { usage >&2; exit 2; }
                case $1 in -o) out=$2 ;; -t) seconds=$2 ;; *) max_size=$2 ;; esac
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
    bad=''
    case $seconds in *[!0-9]* | 0) bad="-t $seconds: whole seconds are needed" ;; esac
    case ${max_size%[kKmMgG]} in *[!0-9]*) bad="--max-size $max_size: no size" ;; esac
    [ -z "$seconds" ] || [ $# -eq 0 ] || bad='-t or a command, not both'
    [ -z "$overhead" ] || [ $# -gt 0 ] || bad='--overhead needs a command'
    [ -z "$out" ] && bad='-o needs a name'
    [ -z "$bad" ] || { echo "hmrecord: $bad" >&2; exit 2; }
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
