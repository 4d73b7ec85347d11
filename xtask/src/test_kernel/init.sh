#!/bin/busybox sh
# The first process of the virtual machine: makes it one that tests can run in, runs the steps, and ends it.
# What is printed goes to the second serial line; lines that begin with @@ are for `cargo xtask test-kernel`.

/bin/busybox --install -s
# Programs of the host come before those of busybox.
export PATH=/tools:/sbin:/usr/sbin:/bin:/usr/bin HOME=/ TMPDIR=/tmp RUST_BACKTRACE=0
export LBD_BIN_DIR=/lbd

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t bpf bpf /sys/fs/bpf
ln -s /run /var/run

exec </dev/null >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 -onlcr
echo "@@ kernel $(uname -r)"

# The kernel loads modules by this list when a device of their kind is made.
depmod
ip link set lo up

# Whoever started the machine kills it at its time; should nobody be left to do that, it ends itself. The kernel hands
# LIMIT on, in seconds, from its command line.
(sleep "$LIMIT" && reboot -f) &

# step NAME COMMAND...: runs a command and says how it ended.
step() {
    name=$1
    shift
    echo "@@ begin $name"
    "$@"
    echo "@@ end $name $?"
}

. /steps

echo "@@ done"
sync
reboot -f
