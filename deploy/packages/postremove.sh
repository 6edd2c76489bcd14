#!/bin/sh
# After a removal, deb and rpm. What the cluster and its operator wrote stays, until
# dpkg is told to purge: then the configuration with all keys and the data go. The
# user stays, as files elsewhere may be its own.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
	rm -rf /etc/lifeboat /var/lib/lifeboat /run/lifeboat
fi
