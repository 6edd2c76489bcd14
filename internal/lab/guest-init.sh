#!/bin/sh
# Init of a lab guest. It beats on the serial console, and keeps a record on its disk by which it
# notices when another copy of the same guest writes to it.
#
# /dev/vda in 512-byte sectors: 0 = the last writer's record "BOOT COUNT NAME";
# 1..1024 = ring of all records; 2048..3071 = ring of split-brain findings.
# Everything is read and written past the page cache: only the device itself is shared.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for m in $(cat /modules/order); do insmod /modules/$m.ko; done

name=$(sed -n 's/.*guest=\([^ ]*\).*/\1/p' /proc/cmdline)
tick=$(sed -n 's/.*tick=\([^ ]*\).*/\1/p' /proc/cmdline)
boot=$(cut -c1-13 /proc/sys/kernel/random/boot_id)
echo "GUEST-UP vm=$name boot=$boot"

printf '#!/bin/sh\necho "GUEST-DOWN vm=%s boot=%s" >/dev/console\nsync\npoweroff -f\n' "$name" "$boot" >/etc/acpi/PWRF/00000080
chmod +x /etc/acpi/PWRF/00000080
acpid -d -l /dev/null -p /dev/null/none >/dev/null 2>&1 &

disk=/dev/vda
[ -b $disk ] || disk=
get() { dd if=$disk bs=512 count=1 skip=$1 iflag=direct 2>/dev/null | head -n 1; }
put() { printf '%-511s\n' "$2" | dd of=$disk bs=512 count=1 seek=$1 oflag=direct conv=notrunc 2>/dev/null || echo "DISK-ERROR vm=$name boot=$boot"; }

n=0
[ -z "$disk" ] || put 0 "$boot 0 $name"
while :; do
	n=$((n + 1))
	if [ -n "$disk" ]; then
		set -- $(get 0)
		# A copy that a live migration has left behind has this boot id too, and its own count.
		if [ "$1" != "$boot" ] || [ "$2" -ge $n ]; then
			finding="SPLIT-BRAIN vm=$name boot=$boot other=$1 at=$n count=$2"
			echo "$finding"
			put $((2048 + n % 1024)) "$finding"
		fi
		put 0 "$boot $n $name"
		put $((1 + n % 1024)) "$boot $n $name"
	fi
	echo "HB vm=$name boot=$boot n=$n"
	sleep $tick
done
