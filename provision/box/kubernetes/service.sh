#!/bin/bash
# A node's services: started, started again when they end, stopped. (A node has no systemd.)
# usage: service.sh start|stop containerd|kubelet      (in the node)
set -euo pipefail
action=$1 name=$2
pid=/run/service-$name.pid
options=/etc/kubernetes/$name.options

# in the node's own cgroups: whoever asked for it may be in others
join() {
    local own=(/sys/fs/cgroup/*/cgroup.procs) group
    if [ -d /sys/fs/cgroup/services ]; then own=(/sys/fs/cgroup/services/cgroup.procs); fi
    for group in "${own[@]}"; do echo 0 > "$group"; done
}

supervise() {
    local child status arguments=()
    join
    if [ -e "$options" ]; then mapfile -t arguments < "$options"; fi
    ulimit -n 20000
    trap 'kill "$child" 2> /dev/null; wait "$child" 2> /dev/null; exit 0' TERM
    while true; do
        "$name" "${arguments[@]}" >> "/var/log/$name.log" 2>&1 &
        child=$!
        wait "$child" && status=0 || status=$?
        echo "$(date +%T) $name ended with status $status: again in 1 s" >> /var/log/services.log
        sleep 1 &
        child=$!
        wait "$child" || true
    done
}

runs() { [ -e "$pid" ] && kill -0 "$(cat "$pid")" 2> /dev/null; }

case $action in
start)
    if runs; then exit 0; fi
    export -f join supervise
    export name options
    setsid bash -c 'set -u; echo $$ > "$0"; supervise' "$pid.new" < /dev/null > /dev/null 2>&1 &
    until [ -s "$pid.new" ]; do sleep 0.01; done
    mv "$pid.new" "$pid"
    ;;
stop)
    if ! runs; then exit 0; fi
    kill "$(cat "$pid")"
    while runs; do sleep 0.02; done
    rm -f "$pid"
    ;;
*)
    echo "usage: service.sh start|stop containerd|kubelet" >&2
    exit 2
    ;;
esac
