#!/bin/sh
# Installs what a lab of real libvirt hosts needs (see internal/lab), on Debian 12 or later, as root.
# Run it as often as you like: it installs only what is missing. The lab uses no service of these
# packages: it starts its own daemons, in namespaces.
set -eu

# internal/lab has the same list; a test compares the two.
packages='libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 iproute2 busybox-static ipmitool openipmi'
# What the repair of CloudStack's usage is tested against (internal/usage/cloudstack).
databases='mariadb-server-core mariadb-client-core'
# For the tests of notifications that are really sent (notify/mail, notify/alertmanager); no lab needs them.
extra='python3-aiosmtpd prometheus-alertmanager'

die() { echo "$0: $*" >&2; exit 1; }
command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || die "this needs Debian: there is no apt-get here"
[ "$(dpkg --print-architecture)" = amd64 ] || die "the lab's guests need amd64; this is $(dpkg --print-architecture)"

missing=
for p in $packages $databases $extra; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done
if [ -z "$missing" ]; then
	echo "lab: all packages are installed, nothing to do"
	exit 0
fi
[ "$(id -u)" = 0 ] || die "run this as root, or install these packages yourself:$missing"

echo "lab: apt-get install$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
# shellcheck disable=SC2086 # a list
apt-get -q -o DPkg::Lock::Timeout=120 install -y --no-install-recommends $missing
# Debian starts this one by itself; the tests start their own. One that was there before is left alone.
case "$missing" in *prometheus-alertmanager*)
	if [ -d /run/systemd/system ] && [ "$(dpkg-query -W -f '${db:Status-Status}' prometheus-alertmanager 2>/dev/null)" = installed ]; then
		systemctl disable --now prometheus-alertmanager.service
	fi ;;
esac
