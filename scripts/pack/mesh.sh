#!/bin/sh
# `unshare --net --mount --uts --pid --fork --kill-child --mount-proc sh mesh.sh`, in a folder where ghostwire is installed: two
# machines, each a network namespace, join by the very line that `serve` prints, and reach each other through the tunnel.
#
# Nothing outlives it: the namespaces end with their first process, which is this one. Exit code 77 where it cannot work.
set -eu

lack() {
  echo "$1" >&2
  exit 77
}
for tool in ip nft wg wireguard-go ping mount; do command -v "$tool" > /dev/null || lack "there is no $tool"; done
[ -c /dev/net/tun ] || lack 'there is no /dev/net/tun'
nft add table inet probe 2> probe.log || lack "no nftables in the kernel: $(cat probe.log)"

# Of its own: the sockets of WireGuard, names of namespaces, and no systemd.
mount -t tmpfs tmpfs /run
mkdir /run/wireguard /run/netns
ip link set lo up
ip netns add second
ip -n second link set lo up
ip link add out type veth peer name out netns second
ip address add 198.51.100.1/24 dev out
ip -n second address add 198.51.100.2/24 dev out
ip link set out up
ip -n second link set out up

PATH="$PWD/node_modules/.bin:$PATH"
mkfifo started
ghostwire serve --json --host 198.51.100.1 --db-path mesh.db > started 2> serve.log &
coordinator=$!
read -r line < started || { cat serve.log >&2; exit 1; }
join=$(node -p 'JSON.parse(process.argv[1]).join' "$line")
case "$join" in 'ghostwire up --server https://198.51.100.1:'*) ;; *) echo "the line to join with is: $join" >&2; exit 1 ;; esac

show() {
  tail -n 20 serve.log first/agent.log second/agent.log >&2 || true
  exit 1
}
# shellcheck disable=SC2086 # the line's own words
$join --hostname first --no-dns --state-dir "$PWD/first" || show
# shellcheck disable=SC2086
ip netns exec second $join --hostname second --no-dns --state-dir "$PWD/second" --interface gw1 || show
ghostwire ping second --count 2 --state-dir "$PWD/first" || show
address=$(ghostwire status --json --state-dir "$PWD/first" | node -p 'JSON.parse(fs.readFileSync(0)).peers.find(({ name }) => name === "second").addresses[0]')
ping -c 2 -W 5 -I gw0 "$address" || show
ip netns exec second ghostwire down --state-dir "$PWD/second" || show
ghostwire down --state-dir "$PWD/first" || show
if ip link show gw0 2> /dev/null; then echo 'gw0 is still there' >&2; exit 1; fi
kill "$coordinator"
wait "$coordinator" || show
echo "joined and reached $address"
