#!/usr/bin/env bash
# Makes the packages of this machine's architecture and looks into them; as root it
# installs, upgrades, removes and purges the deb with the real dpkg, on a copy of
# this machine that is thrown away: make test-packages. What cannot be done here is
# said in a line that begins with SKIP.
set -euo pipefail
cd "$(dirname "$0")/../.."
ARCHS=$(go env GOARCH) deploy/packages/build.sh >/dev/null
deb=$(ls "$PWD"/dist/lifeboat_*.deb) rpm=$(ls "$PWD"/dist/lifeboat-*.rpm)
fail() { echo "FAIL: $1" >&2; exit 1; }

files='/usr/bin/lifeboat
/usr/lib/systemd/system/lifeboat-server.service
/usr/lib/systemd/system/lifeboat-agent.service
/usr/lib/sysusers.d/lifeboat.conf
/usr/lib/tmpfiles.d/lifeboat.conf
/usr/share/man/man1/lifeboat.1.gz
/usr/share/bash-completion/completions/lifeboat
/usr/share/fish/vendor_completions.d/lifeboat.fish
/usr/share/doc/lifeboat/examples/server.yaml
/usr/share/doc/lifeboat/examples/agent.yaml
/usr/share/doc/lifeboat/install.md'
has() { # WHAT LIST
	local f
	for f in $files; do grep -qx -- "$f" <<<"$2" || fail "$f is not in the $1"; done
	! grep -v '^/usr/' <<<"$2" || fail "the $1 puts something outside /usr"
}
if command -v dpkg-deb >/dev/null; then
	has deb "$(dpkg-deb -c "$deb" | awk '$1 !~ /^d/ {sub(/^\./, "", $6); print $6}')"
	dpkg-deb -c "$deb" | awk '$2 != "root/root"' | grep . && fail 'something in the deb is not of root' || true
	dpkg-deb -f "$deb" Package Version Architecture Maintainer
else
	echo "SKIP: the deb was not looked at: there is no dpkg"
fi
if command -v rpm >/dev/null; then
	has rpm "$(rpm -qlp "$rpm" 2>/dev/null)"
	rpm -qp --scripts "$rpm" 2>/dev/null | grep -q systemd-sysusers || fail 'the rpm has no scripts'
	rpm -qp --queryformat '%{NAME} %{VERSION} %{ARCH} %{LICENSE}\n' "$rpm" 2>/dev/null
else
	echo "SKIP: the rpm was not looked at: there is no rpm (apt install rpm)"
fi
if command -v lintian >/dev/null; then
	# On purpose: static, no changelog, scripts for rpm too, the field of nfpm for the license.
	lintian --no-cfg --fail-on error --suppress-tags statically-linked-binary,no-changelog,maintainer-script-calls-systemctl,unknown-field "$deb" | sed 's/^/lintian: /'
else
	echo "SKIP: lintian is not installed"
fi

[ "$(id -u)" = 0 ] && command -v dpkg >/dev/null || { echo "SKIP: installing needs root and dpkg"; exit 0; }
# A throw-away copy of this machine: its root below, a tmpfs on top.
export deb
unshare --mount bash -euo pipefail -s <<'INNER'
fail() { echo "FAIL: $1" >&2; exit 1; }
room=$(mktemp -d)
mount -t tmpfs -o size=512m tmpfs "$room"
mkdir "$room"/{up,work,root}
if ! mount -t overlay overlay -o "lowerdir=/,upperdir=$room/up,workdir=$room/work" "$room/root" 2>/dev/null; then
	echo "SKIP: installing needs an overlay file system"
	umount "$room"; rmdir "$room"
	exit 0
fi
trap 'umount -l "$room/root" "$room"; rmdir "$room"' EXIT
root=$room/root
mount -t tmpfs tmpfs "$root/run"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
cp "$deb" "$root/run/lifeboat.deb"
inside() { chroot "$root" "$@"; }
inside dpkg -i /run/lifeboat.deb >/dev/null
inside lifeboat version
[ "$(inside stat -c '%U:%G %a' /etc/lifeboat)" = 'root:lifeboat 750' ] || fail "/etc/lifeboat is $(inside stat -c '%U:%G %a' /etc/lifeboat)"
inside getent passwd lifeboat >/dev/null || fail 'there is no user lifeboat'
[ -z "$(inside find /etc/systemd/system -name 'lifeboat*')" ] || fail 'a unit was enabled by the installation'
inside man -w lifeboat >/dev/null 2>&1 || [ ! -x "$root/usr/bin/man" ] || fail 'there is no manual page'
if [ -x "$root/usr/bin/systemd-analyze" ]; then
	# Other units of this machine may have faults of their own.
	faults=$(inside systemd-analyze verify lifeboat-server.service lifeboat-agent.service 2>&1 | grep lifeboat || true)
	[ -z "$faults" ] || fail "systemd says of the units: $faults"
fi
# A server of the packaged configuration, checked as its own user.
cd_pki='cd /etc/lifeboat && lifeboat ca init && lifeboat ca issue node n1 && lifeboat ca secret-key secret.key && chown lifeboat: node-n1.key secret.key'
inside sh -c "$cd_pki" >/dev/null
sed 's/10\.0\.0\.1:/127.0.0.1:/' "$root/usr/share/doc/lifeboat/examples/server.yaml" >"$root/etc/lifeboat/server.yaml"
inside install -d -o lifeboat -m 700 /var/lib/lifeboat/node
inside lifeboat config check /etc/lifeboat/server.yaml || fail 'the packaged configuration does not pass its check'
inside chown root: /etc/lifeboat/secret.key
inside lifeboat config check /etc/lifeboat/server.yaml >/dev/null 2>&1 && fail 'a key that the service cannot read passed the check' || true
# An upgrade and a removal keep what the operator wrote; a purge does not.
inside dpkg -i /run/lifeboat.deb >/dev/null
inside dpkg -r lifeboat >/dev/null
[ ! -e "$root/usr/bin/lifeboat" ] && [ -e "$root/etc/lifeboat/secret.key" ] && [ -d "$root/var/lib/lifeboat/node" ] || fail 'a removal took what it should have left, or left the program'
inside dpkg -P lifeboat >/dev/null
[ ! -e "$root/etc/lifeboat" ] && [ ! -e "$root/var/lib/lifeboat" ] || fail 'a purge left something'
echo "installed, upgraded, removed and purged"
INNER
echo "PASS: test-packages"
