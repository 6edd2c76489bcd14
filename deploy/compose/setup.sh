#!/usr/bin/env bash
# Certificates and the secret key of the cluster in deploy/compose.yaml, made by its
# own program in its own volume. What is there already is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${COMPOSE:-}" ]; then
	COMPOSE="docker compose"
	$COMPOSE version >/dev/null 2>&1 || COMPOSE=docker-compose
fi
lifeboat() { $COMPOSE -f compose.yaml run --rm -T pki "$@" </dev/null; }
once() { # FILE, the command that makes it
	local answer
	if answer=$(lifeboat "${@:2}" 2>&1); then
		echo "made $1"
	elif [[ $answer == *exists* ]]; then
		echo "$1 is there"
	else
		echo "$answer" >&2
		return 1
	fi
}
once ca.crt ca init --name lifeboat-compose
for n in n1 n2 n3; do once "node-$n.crt" ca issue node $n --dns $n; done
once operator-admin.crt ca issue operator admin
once secret.key ca secret-key secret.key
