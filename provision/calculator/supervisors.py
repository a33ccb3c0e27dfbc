"""What keeps a service running on a host: systemd where it is process 1, else busybox init by /etc/inittab.

Shell for the host, run there as root. The services run as root too, as a port below 1024 needs (the lab had its
calculator on port 80). A service has on its host

    /opt/labproof/NAME/            its files, ``run`` that starts them, and what they are the fingerprint of
    /var/log/labproof-NAME.log     what it says; when it is started, a log of more than 8 MiB begins anew
    /run/labproof-NAME             how often it was started, how long the log was at its last two starts

and is entered with the supervisor, unless it was stopped. Its processes are known by a variable in their environment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

FOLDER = "/opt/labproof"
NONE = "labproof: no supervisor: "
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def log_file(service: str) -> str:
    """Where a service's log is on its host."""
    return f"/var/log/labproof-{service}.log"


# Few processes are started: under emulation each takes 30 ms of the processor that the services start on.
SHELL = (
    rf"""
export PATH={_PATH} LC_ALL=C
umask 022
base={FOLDER}
if [ -d /run/systemd/system ]; then
    units=/etc/systemd/system
    entered() {{ [ -e "$units/multi-user.target.wants/labproof-$1.service" ]; }}
    names() {{ for name; do [ ! -e "$units/labproof-$name.service" ] || echo "labproof-$name.service"; done; }}
    enter() {{
        for name; do cp "$base/$name/unit" "$units/labproof-$name.service"; done
        systemctl daemon-reload && systemctl --quiet enable --now $(names "$@")
    }}
    leave() {{ [ -z "$(names "$@")" ] || systemctl --quiet disable --now $(names "$@"); }}
    forget() {{
        for name; do rm -f "$units/labproof-$name.service"; done
        systemctl daemon-reload
    }}
elif [ -f /etc/inittab ] && [ "$(basename "$(readlink /proc/1/exe)")" = busybox ]; then
    lines() {{ for name; do echo "::respawn:$base/$name/run"; done; }}
    entered() {{
        while read -r line; do [ "$line" != "::respawn:$base/$1/run" ] || return 0; done </etc/inittab
        return 1
    }}
    # init reads the table when it is told to: it is whole at any time
    enter() {{
        {{ cat /etc/inittab; for name; do entered "$name" || lines "$name"; done; }} >/etc/inittab.labproof
        mv /etc/inittab.labproof /etc/inittab && kill -HUP 1
    }}
    leave() {{
        grep -vxF "$(lines "$@")" /etc/inittab >/etc/inittab.labproof
        mv /etc/inittab.labproof /etc/inittab && kill -HUP 1
    }}
    forget() {{ :; }}
else
    echo "{NONE}process 1 is $(cat /proc/1/comm)" >&2
    exit 1
fi
"""
    r"""
# all processes of services, as /proc/123/environ:LABPROOF_SERVICE=/opt/labproof/NAME/run
processes() { grep -aos "LABPROOF_SERVICE=$base/[^/]*/run" /proc/[0-9]*/environ; }

# SERVICE...: of $all, their processes
of() {
    for line in $all; do
        for name; do
            case $line in *"=$base/$name/run") line=${line#/proc/} && echo "${line%%/*}" ;; esac
        done
    done
}

# SERVICE...
end() {
    for signal in TERM KILL; do
        tries=0
        while all=$(processes); pids=$(of "$@"); [ -n "$pids" ] && [ $tries -lt 25 ]; do
            kill -$signal $pids 2>/dev/null
            sleep 0.2
            tries=$((tries + 1))
        done
    done
}

# PORT..., in hexadecimal: the port and the inode of each socket that listens on one; fails if none does on some
sockets() {
    set -- " $* " $# /proc/net/tcp*
    ports=$1 missing=$2
    shift 2
    awk -v ports="$ports" -v missing="$missing" '
        { port = substr($2, length($2) - 3) }
        $4 == "0A" && index(ports, " " port " ") { print port, $10; missing -= !(port in seen); seen[port] }
        END { exit missing > 0 }' "$@"
}

# INODE PID...: the process that has the socket
holder() {
    inode=$1
    shift
    for pid; do
        case $(ls -l "/proc/$pid/fd" 2>/dev/null) in *"socket:[$inode]"*) echo "$pid" && return ;; esac
    done
    return 1
}

# TIMES PORT...: until somebody listens on each of them; looks at most so often, three times a second
await() {
    tries=$1
    shift
    while [ "$tries" -gt 0 ] && ! sockets "$@" >/dev/null; do
        sleep 0.3
        tries=$((tries - 1))
    done
}

# PORT... -- SERVICE...: what there is of each
look() {
    all=$(processes)
    asked=${*%% -- *}
    listening=$(sockets $asked)
    for port in $asked; do shift; done
    shift
    for service; do
        look_at "$service" "${asked%% *}"
        asked=${asked#* }
    done
}

# SERVICE PORT: a fact a line; where it does not listen, what it has said since its start
look_at() {
    name=$1 port=$2 fingerprint='' inodes='' pids=$(of "$1")
    [ ! -e "$base/$name/fingerprint" ] || read -r fingerprint <"$base/$name/fingerprint"
    echo "service $name"
    echo "fingerprint $fingerprint"
    echo "processes" $pids
    ! entered "$name" || echo entered
    set -- $listening
    while [ $# -gt 0 ]; do
        [ "$1" != "$port" ] || inodes="$inodes $2"
        shift 2
    done
    for inode in $inodes; do
        if holder "$inode" $pids >/dev/null; then echo listens && return; fi
    done
    for inode in $inodes; do
        pid=$(cd /proc && holder "$inode" [0-9]*) && echo "taken $pid $(tr '\0\n' '  ' <"/proc/$pid/cmdline")"
    done
    [ -s "/run/labproof-$name" ] || return 0
    read -r starts before _ <"/run/labproof-$name"
    echo "starts $starts"
    # one that has just been started again has said nothing yet: what it said before counts as well
    tail -c "+$((before + 1))" "/var/log/labproof-$name.log" | tail -n 40 | awk '{ print "| " $0 }'
}

# SERVICE...: their folders, an archive in base64 on the standard input
unpack() {
    new=$base/.new
    rm -rf "$new" && mkdir -p "$new" && base64 -d | tar -xz -C "$new" || exit 1
    old=
    for name; do [ ! -e "$base/$name" ] || old="$old $name"; done
    if [ -n "$old" ]; then
        leave $old
        end $old
        for name in $old; do rm -rf "${base:?}/$name" "/run/labproof-$name"; done
    fi
    mv "$new"/* "$base" && rmdir "$new" || exit 1
}

# SERVICE...
remove() {
    leave "$@"
    end "$@"
    for name; do rm -rf "${base:?}/$name" "/run/labproof-$name" "/var/log/labproof-$name.log"; done
    forget "$@"
    rm -rf "$base/.new" "$base/.part"
    rmdir "$base" 2>/dev/null
    true
}
"""
)

_RUN = r"""#!/bin/sh
# Starts the service @SERVICE@. Made by labproof, which overwrites it.
export PATH=@PATH@
umask 022
if [ "$LABPROOF_SERVICE" != "$0" ]; then
    export LABPROOF_SERVICE="$0"
    exec "$0"
fi
log=@LOG@ state=/run/labproof-@SERVICE@
exec >>"$log" 2>&1 </dev/null
# busybox init may start one that was stopped once more before it has read its table again
[ -d /run/systemd/system ] || grep -qxF "::respawn:$0" /etc/inittab || exit 0
size=$(wc -c <"$log")
starts=0 latest=$size
if [ -s "$state" ]; then
    read -r starts before latest <"$state"
    # what an ended start of it has left running would keep its port
    for process in $(grep -lsF "LABPROOF_SERVICE=$0" /proc/[0-9]*/environ | cut -d/ -f3); do
        [ "$process" = $$ ] || kill -KILL "$process" 2>/dev/null
    done
fi
if [ "$size" -gt 8388608 ]; then
    : >"$log"
    latest=0 size=0
fi
echo "$((starts + 1)) $latest $size" >"$state"
cd @FILES@ || exit 1
@EXPORTS@exec @COMMAND@
"""

_UNIT = """# Made by labproof, which overwrites it.
[Unit]
Description=The lab's calculator: @SERVICE@
After=network.target
StartLimitIntervalSec=0

[Service]
ExecStart=@RUN@
Restart=always
RestartSec=1
TimeoutStopSec=5

[Install]
WantedBy=multi-user.target
"""


def texts(service: str, command: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What a service's folder holds besides its program's files, by the names there.

    Args:
        command: a program with its arguments, as a shell reads them.
        environment: variables that it is given.
    """
    folder = f"{FOLDER}/{service}"
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(environment.items()))
    values = {
        "SERVICE": service,
        "PATH": _PATH,
        "LOG": log_file(service),
        "FILES": f"{folder}/files",
        "RUN": f"{folder}/run",
        "EXPORTS": exports,
        "COMMAND": command,
    }
    return {
        name: re.sub("@([A-Z]+)@", lambda found: values[found[1]], template)
        for name, template in (("run", _RUN), ("unit", _UNIT))
    }
