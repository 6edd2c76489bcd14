#!/usr/bin/env bash
# The image lifeboat:latest, and lifeboat:VERSION: make image
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${VERSION:?}" "${TAGS:?}"
mkdir -p dist/image/empty
CGO_ENABLED=0 go build -trimpath -tags "$TAGS" -ldflags "-s -w -X main.version=$VERSION" -o dist/image/lifeboat ./cmd/lifeboat
docker build -q -f deploy/Dockerfile -t lifeboat:latest -t "lifeboat:$VERSION" dist/image
rm -rf dist/image
