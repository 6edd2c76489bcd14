#!/usr/bin/env bash
# Brings the cluster of deploy/compose.yaml up, stops a node, brings it back, and
# takes everything down: make test-compose. Without a docker engine it says so and
# does nothing; where docker.io is installed and nothing runs, root starts an engine
# of its own for the time of the test.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${VERSION:?}" "${TAGS:?}"

skip() {
	echo "SKIP: test-compose did not run: $1"
	exit 0
}
engine= room=
end() {
	local code=$?
	trap - EXIT
	if [ "$code" != 0 ] && [ -n "${COMPOSE:-}" ]; then $COMPOSE -f deploy/compose.yaml logs --tail 30 || true; fi
	if [ -n "${COMPOSE:-}" ]; then $COMPOSE -f deploy/compose.yaml down --volumes --remove-orphans >/dev/null 2>&1 || true; fi
	if [ -n "$engine" ]; then
		docker rmi -f lifeboat:latest "lifeboat:$VERSION" >/dev/null 2>&1 || true
		kill "$engine" && wait "$engine" || true
		rm -rf "$room"
	fi
	exit "$code"
}

command -v docker >/dev/null || skip "there is no docker here (apt install docker.io docker-compose)"
if ! docker info >/dev/null 2>&1; then
	[ "$(id -u)" = 0 ] && command -v dockerd >/dev/null || skip "no docker engine answers, and none can be started without root and dockerd"
	room=$(mktemp -d)
	export DOCKER_HOST=unix://$room/sock
	# In a network of its own: no bridge and no firewall rule is left on this machine.
	unshare --net sh -c 'ip link set lo up && exec "$@"' - \
		dockerd --data-root "$room/data" --exec-root "$room/exec" --pidfile "$room/pid" -H "$DOCKER_HOST" >"$room/log" 2>&1 &
	engine=$!
	trap end EXIT
	for _ in $(seq 60); do
		docker info >/dev/null 2>&1 && break
		kill -0 "$engine" 2>/dev/null || { tail -3 "$room/log" >&2; engine=; skip "a docker engine cannot run on this machine"; }
		sleep 0.5
	done
	echo "started a docker engine for this test"
fi
if docker compose version >/dev/null 2>&1; then
	found="docker compose"
elif command -v docker-compose >/dev/null; then
	found=docker-compose
else
	skip "there is a docker engine, and no docker compose (apt install docker-compose)"
fi
export COMPOSE_PROJECT_NAME=lifeboat-test-$$ LIFEBOAT_VERSION=$VERSION LIFEBOAT_PORT=${LIFEBOAT_PORT:-1740}
trap end EXIT

deploy/compose/image.sh >/dev/null
export COMPOSE=$found
echo "image: $(docker image inspect --format '{{.Size}} bytes, user {{.Config.User}}' "lifeboat:$VERSION")"
compose() { $COMPOSE -f deploy/compose.yaml "$@"; }
lifeboat() { compose run --rm -T cli "$@" </dev/null 2>"$log"; }
log=$(mktemp)

deploy/compose/setup.sh
deploy/compose/setup.sh | grep -c 'is there' | grep -qx 6 || { echo 'a second setup changed something' >&2; exit 1; }
compose up -d n1 n2 n3

# nodes STATE is how many nodes are in it.
nodes() { lifeboat node list -o json | grep -c "\"state\": \"$1\"" || true; }
until_nodes() { # NUMBER STATE SECONDS
	local began=$SECONDS
	while [ "$(nodes "$2")" != "$1" ]; do
		[ $((SECONDS - began)) -lt "$3" ] || { lifeboat node list || cat "$log"; echo "after $3 s there are not $1 nodes $2" >&2; exit 1; }
		sleep 0.5
	done
	echo "$1 nodes are $2 after $((SECONDS - began)) s"
}
until_nodes 3 Up 60
lifeboat status
lifeboat node list | grep -qw leader || { echo 'nobody leads' >&2; exit 1; }
[ "$(compose ps -q n1 n2 n3 | xargs docker inspect --format '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}' | sort -u)" = "65532:65532 true" ] ||
	{ echo 'a node is root, or may write to its image' >&2; exit 1; }
compose stop n3
until_nodes 1 Down 30
compose up -d n3
until_nodes 3 Up 30
compose kill n2
until_nodes 1 Down 30
compose up -d n2
until_nodes 3 Up 30
compose down --volumes
[ -z "$(docker volume ls -q --filter "name=$COMPOSE_PROJECT_NAME")" ] || { echo 'a volume is left' >&2; exit 1; }
rm -f "$log"
echo "PASS: test-compose"
