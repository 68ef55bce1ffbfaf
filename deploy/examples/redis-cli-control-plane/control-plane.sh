#!/bin/sh
# A control plane with no library at all: each thing that it knows is one XADD. In Go it is rdb.XAdd with the same values.
#   control-plane.sh tree RUN            root > middle > leaf-1, leaf-2, as queued executions
#   control-plane.sh cancel-run RUN      everything of the run
#   control-plane.sh cancel-subtree RUN ID
#   control-plane.sh cancel-execution RUN ID
#   control-plane.sh watch RUN           prints what is heard of cancelled executions, until it is ended
# REDIS_URL (default redis://127.0.0.1:6379/0) and BROKER_NAMESPACE (default cb) say where.
set -eu
url=${REDIS_URL:-redis://127.0.0.1:6379/0}
namespace=${BROKER_NAMESPACE:-cb}

# Ids come into the JSON as they are: their grammar (A-Z a-z 0-9 . _ : @ -) has nothing that JSON would escape.
check() {
    case $1 in
        '' | @* | *[!A-Za-z0-9._:@-]*) echo "control-plane.sh: '$1' is no id; allowed are A-Z a-z 0-9 . _ : @ -" >&2; exit 2 ;;
    esac
}
say() { redis-cli -u "$url" --no-auth-warning -e XADD "$namespace:events" '*' event "$1"; }
created() {
    say "{\"v\":1,\"type\":\"execution.created\",\"run_id\":\"$1\",\"execution_id\":\"$2\",\"parent_execution_id\":\"$3\",\"status\":\"queued\",\"agent_node_id\":\"redis-cli\"}"
}

verb=${1:-}
run=${2:-}
[ -n "$verb" ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
check "$run"
case $verb in
    tree)
        created "$run" "$run.root" ''
        created "$run" "$run.middle" "$run.root"
        created "$run" "$run.leaf-1" "$run.middle"
        created "$run" "$run.leaf-2" "$run.middle"
        ;;
    cancel-run)
        say "{\"v\":1,\"type\":\"run.cancel_requested\",\"run_id\":\"$run\",\"reason\":\"asked for\",\"requested_by\":\"redis-cli\"}"
        ;;
    cancel-subtree | cancel-execution)
        check "${3:-}"
        say "{\"v\":1,\"type\":\"${verb#cancel-}.cancel_requested\",\"run_id\":\"$run\",\"execution_id\":\"$3\",\"reason\":\"asked for\",\"requested_by\":\"redis-cli\"}"
        ;;
    watch) exec redis-cli -u "$url" --no-auth-warning SUBSCRIBE "$namespace:{$run}:ack-events" ;;
    *) echo "control-plane.sh: '$verb'; allowed are tree, cancel-run, cancel-subtree, cancel-execution, watch" >&2; exit 2 ;;
esac
