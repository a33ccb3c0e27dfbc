#!/bin/bash
# Waits for a node's end, however it comes, and takes away its cgroups, which no namespace takes along.
# usage: janitor.sh CGROUP... < PIPE      (the node's processes hold the pipe's other end open)
read -r _
for try in {1..100}; do
    left=0
    for group; do
        if [ -d "$group" ]; then
            find "$group" -depth -type d -exec rmdir {} + 2> /dev/null || left=1
            # the cluster's own, once its last node has gone
            rmdir "${group%/*}" 2> /dev/null
        fi
    done
    if [ $left = 0 ]; then exit 0; fi
    sleep 0.1
done
exit 1
