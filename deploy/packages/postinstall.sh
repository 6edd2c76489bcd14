#!/bin/sh
# After an installation or an upgrade, deb and rpm. It starts and restarts nothing:
# when a management node restarts is the operator's choice, one node at a time.
set -e

# rpm says how many versions are installed now, dpkg what it does.
case "$1" in
1 | 2 | configure) ;;
*) exit 0 ;;
esac

if command -v systemd-sysusers >/dev/null 2>&1; then
	systemd-sysusers /usr/lib/sysusers.d/lifeboat.conf
elif ! getent passwd lifeboat >/dev/null; then
	useradd --system --user-group --home-dir /var/lib/lifeboat --no-create-home --shell /usr/sbin/nologin lifeboat
fi
# In an image that is being built there may be no systemd, or no /proc for it.
if ! systemd-tmpfiles --create /usr/lib/tmpfiles.d/lifeboat.conf 2>/dev/null; then
	install -d -m 0750 -o root -g lifeboat /etc/lifeboat
	install -d -m 0755 /var/lib/lifeboat
fi

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	for unit in lifeboat-server lifeboat-agent; do
		if systemctl --quiet is-active "$unit.service"; then
			echo "lifeboat: $unit goes on with the version it was started with; one machine at a time: systemctl restart $unit"
		fi
	done
fi
