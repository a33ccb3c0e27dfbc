# The physical world around the cloud, sourced by enter.sh: a campus network with the desktop and a
# neighbour, the upstream router, the cloud's public network, and a host on the internet.
#
#   desktop 10.1.5.89 ---+                                    +--- 192.168.37.5 the cloud (APIs)
#                        | campus 10.1.0.0/16                 |
#   neighbour 10.1.5.90 -+--- 10.1.0.254 upstream 192.168.37.1 --- public 192.168.37.0/24 --- floating IPs
#                                        198.51.100.1 ------------ outside 198.51.100.8
# A bridge without an address of its own takes its ports' lowest: it would change with each router's leg, and the
# neighbours would send to the old one until they ask again.
ip -batch - <<'IP'
link set lo up
link add br-mgmt address 02:00:00:00:99:01 type bridge
address add 10.99.0.1/24 dev br-mgmt
link set br-mgmt up
link add br-ext address 02:00:00:00:37:05 type bridge forward_delay 0
address add 192.168.37.5/24 dev br-ext
link set br-ext up
route add default via 192.168.37.1
netns add upstream
netns add desktop
netns add neighbour
netns add outside
link add public type veth peer name public netns upstream
link set public master br-ext up
IP
ip -n upstream -batch - <<'IP'
link set lo up
link add campus address 02:00:00:00:01:fe type bridge forward_delay 0
address add 10.1.0.254/16 dev campus
link set campus up
address add 192.168.37.1/24 dev public
link set public up
link add desktop type veth peer name eth0 netns desktop
link set desktop master campus up
link add neighbour type veth peer name eth0 netns neighbour
link set neighbour master campus up
link add outside type veth peer name eth0 netns outside
address add 198.51.100.1/24 dev outside
link set outside up
IP
for host in "desktop 10.1.5.89/16 10.1.0.254" "neighbour 10.1.5.90/16 10.1.0.254" "outside 198.51.100.8/24 198.51.100.1"; do
    set -- $host
    ip -n "$1" -batch - <<IP
link set lo up
address add $2 dev eth0
link set eth0 up
route add default via $3
IP
done
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.bridge.bridge-nf-call-iptables=1 \
    net.bridge.bridge-nf-call-ip6tables=1
# what the campus lets through to the cloud's floating IPs: ICMP, SSH, the services' ports, and the cloud's APIs
nsenter --net=/run/netns/upstream sh -e <<'SH'
sysctl -qw net.ipv4.ip_forward=1
iptables-restore <<'RULES'
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:cloud - [0:0]
-A FORWARD -i campus -o public -j cloud
-A cloud -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A cloud -d 192.168.37.5 -j ACCEPT
-A cloud -p icmp -j ACCEPT
-A cloud -p tcp -m multiport --dports 22,50000:50050 -j ACCEPT
-A cloud -j DROP
COMMIT
RULES
SH
# the NAT of a VM that runs on the desktop sends the guest's pings from a socket that the kernel grants by group
nsenter --net=/run/netns/desktop sysctl -qw net.ipv4.ping_group_range="0 2147483647"
