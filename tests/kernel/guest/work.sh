# Workloads that reach kmap(), kmap_local() and the arena; WORK names them, REPEAT how often.
#   work.sh prepare   modules and file systems, before anything is recorded
#   work.sh run       the workloads, one after the other
#   work.sh timed     the same, between two marks for the host
#   work.sh finish    unmount
: "${WORK:?}" "${REPEAT:?}"

load() {
    while read -r module; do
        grep -q "^$module " /proc/modules || insmod "/modules/$module.ko"
    done <"/job/modules/$1"
}

mounted() {
    # mounted NAME TYPE [OPTIONS]
    mkdir -p "/mnt/$1"
    mount -t "$1" ${2:+-o "$2"} "/dev/disk-$1" "/mnt/$1"
}

names() {
    # names BEGIN COUNT
    seq 1 "$2" | sed "s|^|$1|"
}

folders() {
    # folders WHERE COUNT: made, filled, listed and removed by three processes at once.
    # Each folder has a page, or more, of its own: 512 of them fill the pool of a PAE machine.
    for process in 1 2 3; do
        (
            top=$1/p$process
            mkdir "$top"
            names "$top/d" "$2" | xargs mkdir
            for folder in $(seq 1 8); do
                names "$top/d$folder/some-file-name-" 100 | xargs touch
            done
            find "$top" | wc -l
            rm -r "$top"
        ) &
    done
    wait
}

text() {
    # text FILE PARTS: parts of 230 kB that compress well, none of whose pages is like another's
    seq 1 40000 >/tmp/text
    for part in $(seq 1 "$2"); do
        echo "part $part"
        cat /tmp/text
    done >"$1"
    rm /tmp/text
}

prepare_fork() { :; }
run_fork() {
    for process in 1 2; do
        for number in $(seq 1 "$((40 * REPEAT))"); do
            find /bin | wc -l
        done &
    done
    wait
}

prepare_minix() { load minix && mounted minix; }
run_minix() { folders /mnt/minix "$((80 * REPEAT))"; }

prepare_nilfs2() { load nilfs2 && mounted nilfs2; }
run_nilfs2() { folders /mnt/nilfs2 "$((40 * REPEAT))" && sync; }

prepare_f2fs() {
    load f2fs && mounted f2fs compress_algorithm=lz4,compress_extension='*',compress_log_size=4
}
run_f2fs() {
    for number in $(seq 1 "$((2 * REPEAT))"); do
        text "/mnt/f2fs/$number" 12
    done
    sync
    echo 3 >/proc/sys/vm/drop_caches
    cat /mnt/f2fs/* | wc -c
    rm /mnt/f2fs/*
}

prepare_erofs() { load erofs && mounted erofs; }
run_erofs() {
    for number in $(seq 1 "$REPEAT"); do
        echo 3 >/proc/sys/vm/drop_caches
        for process in 1 2; do
            cat /mnt/erofs/* | md5sum &
        done
        wait
    done
}

prepare_modules() { :; }
run_modules() {
    for number in $(seq 1 "$REPEAT"); do
        loaded=
        while read -r module; do
            grep -q "^$module " /proc/modules && continue
            insmod "/modules/$module.ko" && loaded="$module $loaded"
        done </job/modules/modules
        for module in $loaded; do
            rmmod "$module"
        done
    done
}

prepare_zram() {
    load zram
    echo 192M >/sys/block/zram0/disksize
    mkswap /dev/zram0 >/dev/null
    swapon /dev/zram0
    mkdir -p /mnt/group /mnt/pressed
    mount -t cgroup2 cgroup2 /mnt/group
    echo +memory >/mnt/group/cgroup.subtree_control
    mkdir -p /mnt/group/small
    echo 14M >/mnt/group/small/memory.max
    mount -t tmpfs -o size=160M tmpfs /mnt/pressed
}
run_zram() {
    # files in memory of a group that may have less of it than they need: zram takes the rest
    for number in $(seq 1 "$((2 * REPEAT))"); do
        (
            echo 0 >/mnt/group/small/cgroup.procs
            text "/mnt/pressed/$number" 50
            md5sum "/mnt/pressed/$number"
        )
    done
    cat /sys/block/zram0/mm_stat
    rm /mnt/pressed/*
}

prepare_hotplug() { :; }
run_hotplug() {
    for number in $(seq 1 "$REPEAT"); do
        echo 0 >/sys/devices/system/cpu/cpu1/online
        run_fork
        echo 1 >/sys/devices/system/cpu/cpu1/online
        run_fork
    done
}

run() {
    for work in $WORK; do
        "run_$work" || echo "$work failed: $?"
    done
}

case $1 in
prepare)
    for work in $WORK; do
        "prepare_$work" || echo "$work: prepare failed: $?"
    done
    ;;
run) run ;;
timed)
    echo "hmtrace mark recorded" >/dev/console
    run >/results/work-recorded 2>&1
    echo "hmtrace mark recorded" >/dev/console
    ;;
finish)
    for mount in /mnt/*; do
        umount "$mount" 2>/dev/null
    done
    ;;
esac
