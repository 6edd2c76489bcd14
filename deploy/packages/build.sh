#!/usr/bin/env bash
# deb and rpm for amd64 and arm64 in dist/: make packages. The environment says
# VERSION, what the program calls itself, TAGS, and NFPM, the packager's module.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${VERSION:?}" "${TAGS:?}" "${NFPM:?}"

# v1.2.3 is 1.2.3; between versions, and before the first, the commit says.
case "$VERSION" in
v[0-9]*) PACKAGE_VERSION=${VERSION#v} PACKAGE_VERSION=${PACKAGE_VERSION//-/+} ;;
*) PACKAGE_VERSION=0~$(git log -1 --format=%cd --date=format:%Y%m%d%H%M%S).${VERSION//-/.} ;;
esac
# The same sources make the same packages.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export PACKAGE_VERSION SOURCE_DATE_EPOCH GOARCH CGO_ENABLED=0

stage=dist/stage
rm -rf "$stage" dist/*.deb dist/*.rpm
mkdir -p "$stage" bin
GOARCH= GOBIN=$PWD/bin go install "$NFPM"
GOARCH= go build -trimpath -tags "$TAGS" -ldflags "-s -w -X main.version=$VERSION" -o bin/lifeboat ./cmd/lifeboat
bin/lifeboat man | gzip -9n >"$stage/lifeboat.1.gz"
for shell in bash zsh fish; do bin/lifeboat completion $shell >"$stage/lifeboat.$shell"; done
for kind in server agent; do bin/lifeboat config default $kind >"$stage/$kind.yaml"; done
for GOARCH in ${ARCHS:-amd64 arm64}; do
	go build -trimpath -tags "$TAGS" -ldflags "-s -w -X main.version=$VERSION" -o "$stage/lifeboat" ./cmd/lifeboat
	find "$stage" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
	for packager in deb rpm; do
		bin/nfpm package --config deploy/packages/nfpm.yaml --packager $packager --target dist/
	done
done
rm -rf "$stage"
ls -l dist
