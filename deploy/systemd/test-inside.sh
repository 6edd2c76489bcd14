# What test.sh looks at, inside the machine that it boots.
export LIFEBOAT_ADDR=127.0.0.1:7400 LIFEBOAT_CERT=/etc/lifeboat/operator-me.crt LIFEBOAT_KEY=/etc/lifeboat/operator-me.key LIFEBOAT_CA=/etc/lifeboat/ca.crt
get() { systemctl show -p "$2" --value "lifeboat-$1"; }
is() { # WHAT HAS WANT
	if [ "$2" = "$3" ]; then echo "ok   $1: $2"; else
		echo "FAIL $1: $2, not $3"
		journalctl --no-pager -n 20 -u lifeboat-server -u lifeboat-agent
	fi
}
becomes() { # WHAT WANT SECONDS COMMAND...
	local end=$((SECONDS + $3)) now
	until now=$("${@:4}" 2>&1) && [ "$now" = "$2" ] || [ $SECONDS -ge $end ]; do sleep 0.2; done
	is "$1" "$now" "$2"
}

is 'server after the boot' "$(get server ActiveState)" active
is 'agent after the boot' "$(get agent ActiveState)" active
becomes 'status of the server' leading 15 get server StatusText
becomes 'status of the agent' 'reporting to 127.0.0.1:7400' 15 get agent StatusText
up() { lifeboat host list -o json | grep -c '"status": "Up"'; }
becomes 'hosts that are Up' 1 15 up
pid=$(get server MainPID)
is 'user of the server' "$(stat -c %U "/proc/$pid")" lifeboat
is 'capabilities of the server' "$(awk '/^CapEff/ {print $2}' "/proc/$pid/status")" 0000000000000000
is 'data of the server' "$(stat -c '%U %a' /var/lib/lifeboat/node)" 'lifeboat 700'
is 'data of the agent' "$(stat -c '%U %a' /var/lib/lifeboat/agent)" 'root 700'

lifeboat host disable h1 >/dev/null && lifeboat host enable h1 >/dev/null || echo 'FAIL an operator cannot write'
began=$SECONDS
systemctl stop lifeboat-agent lifeboat-server
[ $((SECONDS - began)) -le 8 ] || echo "FAIL the stop took $((SECONDS - began)) s"
is 'result of the stop' "$(get server Result) $(get agent Result)" 'success success'

# A frozen process is ended and started again; quicker here than in production.
for unit in server agent; do
	mkdir -p "/run/systemd/system/lifeboat-$unit.service.d"
	printf '[Service]\nWatchdogSec=3\n' >"/run/systemd/system/lifeboat-$unit.service.d/quick.conf"
done
systemctl daemon-reload
systemctl start lifeboat-server lifeboat-agent
for unit in server agent; do
	kill -STOP "$(get $unit MainPID)"
	becomes "restarts of the frozen $unit" 1 15 get $unit NRestarts
	becomes "the $unit after that" active 15 get $unit ActiveState
	journalctl --no-pager -u lifeboat-$unit | grep -q 'goroutine ' || echo "FAIL the $unit left no stacks in the journal"
done
becomes 'status of the server' leading 15 get server StatusText
# One that works stays, four times its watchdog.
sleep 12
is 'restarts since then' "$(get server NRestarts) $(get agent NRestarts)" '1 1'

# What an operator shut down stays down, a crash does not.
kill -KILL "$(get server MainPID)"
becomes 'restarts after a crash' 2 15 get server NRestarts
becomes 'status of the server' leading 15 get server StatusText
lifeboat node shutdown trigger n1 --force >/dev/null
becomes 'server after node shutdown trigger' inactive 15 get server ActiveState
sleep 3
is 'and a while later' "$(get server ActiveState)" inactive
mv /etc/lifeboat/server.yaml /etc/lifeboat/server.away
systemctl start lifeboat-server 2>/dev/null && echo 'FAIL it starts without a configuration'
echo 'all looked at'
