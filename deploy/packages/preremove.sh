#!/bin/sh
# Before a removal, deb and rpm; an upgrade comes by too and is left alone.
set -e

case "$1" in
0 | remove) ;;
*) exit 0 ;;
esac

if command -v systemctl >/dev/null 2>&1; then
	if [ -d /run/systemd/system ]; then
		# The agent withdraws its lease, a leader hands over. VMs are not touched.
		systemctl stop lifeboat-agent.service lifeboat-server.service || true
	fi
	systemctl --quiet disable lifeboat-agent.service lifeboat-server.service 2>/dev/null || true
fi
# The hook that asks this program stays with libvirt: it allows everything once
# the program is gone.
