# The job: tracing's state, the workload alone, the recorder around it, tracing's state again.
# /job/settings gives WORK (names of workloads), RECORDER (options of the recorder), TRACEFS
# (whether it is mounted before) and REPEAT.
# shellcheck source=/dev/null
. /job/settings
PATH=/bin
export WORK REPEAT PATH

state() {
    # what the recorder has to leave as it was; read through a mount of our own
    mkdir -p /tmp/state
    grep tracefs /proc/mounts
    mount -t tracefs tracefs /tmp/state
    for name in kprobe_events uprobe_events dynamic_events tracing_on current_tracer set_event \
        trace_clock trace_options set_ftrace_filter set_event_pid events/enable \
        tracing_cpumask tracing_thresh kprobe_profile; do
        [ -e "/tmp/state/$name" ] && sed "s|^|$name: |" "/tmp/state/$name"
    done
    read -r size _ </tmp/state/buffer_size_kb # the rest is whether it was ever used
    echo "buffer_size_kb: $size"
    for instance in /tmp/state/instances/*; do
        [ -d "$instance" ] && echo "instance ${instance##*/}"
    done
    umount /tmp/state
    rmdir /tmp/state
    for name in kernel/kptr_restrict kernel/printk kernel/ftrace_enabled kernel/sysrq \
        debug/kprobes-optimization; do
        [ -e "/proc/sys/$name" ] && sed "s|^|$name: |" "/proc/sys/$name"
    done
    for folder in / /tmp /mnt /dev/shm /run; do
        [ -d "$folder" ] && ls -d "$folder"/* 2>/dev/null
    done
    for process in /proc/[0-9]*; do
        # those of user space have a program
        [ -e "$process/exe" ] && tr '\0' ' ' <"$process/cmdline" && echo
    done
}

mark() {
    # the host notes the time, and the CPU time that the emulator took so far
    echo "hmtrace mark $1" >/dev/console
}

[ "$TRACEFS" = mounted ] && mount -t tracefs tracefs /sys/kernel/tracing
sh /job/work.sh prepare || echo "prepare failed: $?"
sh /job/work.sh run >/results/work-first 2>&1 # what is read from disks once is read here
mark alone
sh /job/work.sh run >/results/work-alone 2>&1 || echo "the workload alone failed: $?"
mark alone
sync

state >/results/state-before
mark recorder
# shellcheck disable=SC2086 # options are words
sh /job/hmrecord.sh $RECORDER -o - -- sh /job/work.sh timed \
    >/dev/disk-capture 2>/results/recorder
echo "$?" >/results/recorder-status
mark recorder
sync
state >/results/state-after
dmesg | grep -E -i 'warning|bug:|oops|call trace|panic|stall|hung' >/results/complaints
sh /job/work.sh finish
