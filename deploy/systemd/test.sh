#!/usr/bin/env bash
# Boots a copy of this machine with the deb installed, under a real systemd, and looks
# at what the units do there: make test-units. It needs root, an overlay file system
# and systemd-nspawn (apt install systemd-container), and says so where one is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() {
	echo "SKIP: test-units did not run: $1"
	exit 0
}
[ "$(id -u)" = 0 ] || skip 'it needs root'
command -v systemd-nspawn >/dev/null || skip 'there is no systemd-nspawn (apt install systemd-container)'
command -v dpkg >/dev/null || skip 'there is no dpkg'
ARCHS=$(go env GOARCH) deploy/packages/build.sh >/dev/null
deb=$(ls "$PWD"/dist/lifeboat_*.deb)
probe=$PWD/deploy/systemd/test-inside.sh
export deb probe
unshare --mount bash -uo pipefail -s <<'INNER'
set -e
room=$(mktemp -d)
trap 'code=$?; set +e; umount -l "$room/root/proc" 2>/dev/null; umount -l "$room/root" "$room"; rmdir "$room"; exit $code' EXIT
mount -t tmpfs -o size=768m tmpfs "$room"
mkdir "$room"/{up,work,root}
root=$room/root
if ! mount -t overlay overlay -o "lowerdir=/,upperdir=$room/up,workdir=$room/work" "$root" 2>/dev/null; then
	echo 'SKIP: test-units did not run: it needs an overlay file system'
	exit 0
fi
mount -t proc proc "$root/proc"
cp "$deb" "$root/root/lifeboat.deb"
chroot "$root" dpkg -i /root/lifeboat.deb >/dev/null
umount "$root/proc"
chroot "$root" sh -c 'cd /etc/lifeboat && lifeboat ca init && lifeboat ca issue node n1 && lifeboat ca issue operator me &&
	lifeboat ca issue host h1 && lifeboat ca secret-key secret.key && chown lifeboat: node-n1.key secret.key' >/dev/null
examples=$root/usr/share/doc/lifeboat/examples
sed 's/10\.0\.0\.1:/127.0.0.1:/; /^  n[23]:/d' "$examples/server.yaml" >"$root/etc/lifeboat/server.yaml"
sed 's/10\.0\.0\.1:/127.0.0.1:/; /- 10.0.0.[23]/d; s|^#hypervisor:.*|hypervisor: "mem:"|' "$examples/agent.yaml" >"$root/etc/lifeboat/agent.yaml"
# Nothing of this machine itself is started.
rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/systemd/system/lifeboat*
chroot "$root" systemctl --quiet enable lifeboat-server lifeboat-agent
cp "$probe" "$root/root/probe"
cat >"$root/etc/systemd/system/probe.service" <<'UNIT'
[Unit]
# Both say that they are ready before this starts.
After=lifeboat-server.service lifeboat-agent.service
[Service]
Type=oneshot
StandardOutput=file:/root/result
StandardError=inherit
ExecStart=/bin/bash /root/probe
ExecStopPost=/bin/systemctl --no-block poweroff
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../probe.service "$root/etc/systemd/system/multi-user.target.wants/probe.service"
timeout 180 systemd-nspawn -q --register=no --keep-unit --private-network -D "$root" --boot >"$room/boot" 2>&1 </dev/null || true
if [ ! -e "$root/root/result" ]; then
	echo 'SKIP: test-units did not run: no systemd boots in a container here:'
	tail -3 "$room/boot"
	exit 0
fi
cat "$root/root/result"
grep -q '^FAIL' "$root/root/result" && exit 1
grep -qx 'all looked at' "$root/root/result"
INNER
echo "PASS: test-units"
