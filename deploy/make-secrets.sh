#!/bin/sh
# Makes every secret of a deployment, once: sh deploy/make-secrets.sh [FOLDER] [REDIS_HOST:PORT]
#
# Default: deploy/secrets (git-ignored) and redis:6379, which is what compose.yaml expects. It holds then
#   tokens            what servers accept: names, scopes, hashes
#   ops.token         scope cancel and publish, for people (BROKER_TOKEN)
#   worker.token      scope publish, for workers without Redis: they can register, start and end, and cancel nothing
#   prometheus.token  scope observe
#   users.acl         users of Redis, with hashes of their passwords
#   broker.env, worker.env, publisher.env, observer.env     BROKER_REDIS_URL of each user
#   grafana-password  of its user admin
# Never overwrites: to start again, remove the folder; to change one token, see README.md, "Tokens".
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
folder=${1:-$here/secrets}
address=${2:-redis:6379}

[ ! -e "$folder/users.acl" ] || { echo "$folder holds secrets already; nothing was changed" >&2; exit 1; }

# The folder shields the files on this machine. In a container each file is mounted alone, for a user that is nobody
# here, so the files themselves can be read by all.
mkdir -p "$folder"
chmod 700 "$folder"
umask 022

random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -d' ' -f1; }

new_token() { # NAME SCOPES
    token=cbt_$(random)
    printf '%s' "$token" >"$folder/$1.token"
    printf '%s %s %s\n' "$1" "$2" "$(printf %s "$token" | sha256)" >>"$folder/tokens"
}

# Of redis/users.acl, whose comments Redis would not read, with the hash of a fresh password for each user.
sed -e '/^#/d' -e '/^$/d' "$here/redis/users.acl" >"$folder/users.acl.new"
for user in broker worker publisher observer; do
    password=$(random)
    hash=$(printf %s "$password" | sha256)
    sed "s/#<sha256 of $user>/#$hash/" "$folder/users.acl.new" >"$folder/users.acl.next"
    mv "$folder/users.acl.next" "$folder/users.acl.new"
    printf 'BROKER_REDIS_URL=redis://%s:%s@%s/0\n' "$user" "$password" "$address" >"$folder/$user.env"
done

: >"$folder/tokens"
new_token ops publish,cancel
new_token worker publish
new_token prometheus observe
random >"$folder/grafana-password"
mv "$folder/users.acl.new" "$folder/users.acl"
