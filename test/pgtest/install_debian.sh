# Installs Debian packages without starting what they contain: no service is started, and PostgreSQL's package makes no
# cluster. Both are asked for by files that are removed again. Runs as root, with the packages as arguments.
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.d
made_policy=
cleanup() {
    rm -f "$clusters/pgtest.conf"
    if [ -n "$made_policy" ]; then rm -f "$policy"; fi
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

mkdir -p "$clusters"
echo 'create_main_cluster = false' >"$clusters/pgtest.conf"
if [ ! -e "$policy" ]; then
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
# A third-party source that cannot be reached must not keep the others' packages from being installed.
apt-get update -q || echo 'apt-get update failed; going on with the lists that are here' >&2
apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
