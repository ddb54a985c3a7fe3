#!/bin/sh
# Starts $CHROMIUM with partitioned storage, as its users have it: Playwright switches that feature off, and then the browser denies
# localStorage and service workers to every frame of another site.
for argument; do
  shift
  case $argument in
    --disable-features=*) argument=$(printf %s "$argument" | sed 's/ThirdPartyStoragePartitioning,//') ;;
  esac
  set -- "$@" "$argument"
done
exec "$CHROMIUM" "$@"
