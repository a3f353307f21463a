#!/usr/bin/env bash
# Checks the models of the protocol with spin: every model must pass, and every
# model without one of its guards must fail, by the property that the guard is
# there for. Ends with "model: OK …", or "model: FAILED …" and status 1.
#
#   run.sh          everything: three minutes of processor time on two cores, under 4 GiB
#   run.sh NAME…    only the rows with these names
#   run.sh -l       the names
#
# SIZE=ci takes the largest row, with two faults in one run, with one only: half the
# time, and under 1 GiB. It is what the build server runs.
# KEEP=1 keeps the temporary directory, with the output and spin's trail of each row.
set -uo pipefail
SIZE=${SIZE:-full}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# kind | name | expected property | model | flags of the model | of gcc | of pan
#   whole: must pass, and must reach every statement
#   pass:  must pass
#   break: must be refuted by the property named
rows() {
	local safety='-DSAFETY -DNOREDUCE' small='-DE=2 -DFAULTS=1'
	row() { printf '%s|%s|%s|%s|%s|%s|%s\n' "$@"; }

	if [ "$SIZE" = ci ]; then
		row whole recreate - recreate "$small" "$safety -DMEMLIM=1300" ''
	else
		row whole recreate - recreate '-DE=2 -DFAULTS=2' "$safety -DMEMLIM=2750" ''
	fi
	row pass recreate-3-workers - recreate '-DNW=3 -DE=1 -DFAULTS=0' "$safety -DMEMLIM=1300" ''
	row pass recreate-no-cycle - recreate "$small" '-DNP -DNOREDUCE -DMEMLIM=1300' '-l'
	row pass recreate-leaky - recreate "$small -DLEAKY_DRAIN" "$safety -DMEMLIM=1300" ''
	row pass recreate-no-cancel - recreate "$small -DNO_CANCEL" "$safety -DMEMLIM=1300" ''
	# Without NO_LOOK_AT_HOLES a prober does less, which is of use for H3 only.
	row pass horizon - horizon '-DNWR=3 -DDRAWS=1 -DNP=1 -DNO_LOOK_AT_HOLES' '-DSAFETY -DNOCLAIM -DMEMLIM=1300' ''
	row pass horizon-fresh - horizon '-DNWR=2 -DDRAWS=1 -DNP=2 -DNO_LOOK_AT_HOLES' '-DSAFETY -DNOCLAIM -DMEMLIM=1300' ''
	row pass horizon-announced - horizon '-DNWR=2 -DDRAWS=1 -DNP=2 -DNO_LOOK_AT_HOLES -DANNOUNCE' '-DSAFETY -DNOCLAIM -DMEMLIM=1300' ''
	row whole horizon-prepared - horizon '-DNWR=2 -DDRAWS=2 -DNP=1 -DPREPARED' '-DSAFETY -DNOCLAIM -DMEMLIM=1300' ''
	row pass horizon-progress - horizon '-DNWR=2 -DDRAWS=1 -DNP=1 -DPREPARED' '-DNFAIR=3 -DMEMLIM=1300' '-a -f -N progress'

	row whole parking - parking '-DE=3 -DACTS=5' "$safety -DMEMLIM=1300" ''

	# One of the two is enough, as long as processors are stopped before their worker is ready.
	row pass NO_GENERATION_IN_FENCE - recreate "$small -DNO_GENERATION_IN_FENCE" "$safety" ''
	row pass NO_WORKER_IN_FENCE - recreate "$small -DNO_WORKER_IN_FENCE" "$safety" ''

	row break NO_GENERATION_NO_WORKER P3a recreate "$small -DNO_GENERATION_IN_FENCE -DNO_WORKER_IN_FENCE" "$safety" ''
	row break NO_GENERATION_LEAKY P3a recreate "$small -DNO_GENERATION_IN_FENCE -DLEAKY_DRAIN" "$safety" ''
	row break NO_POSITION_COMPARE P2 recreate "$small -DNO_POSITION_COMPARE" "$safety" ''
	row break NO_REREAD P5 recreate "$small -DNO_REREAD" "$safety" ''
	row break NO_PIECE_FILTER P2 recreate "$small -DNO_PIECE_FILTER" "$safety" ''
	row break ANY_LOCK_ORDER P5 recreate "$small -DNO_CANCEL -DANY_LOCK_ORDER" "$safety" ''
	row break NO_DRAIN_BEFORE_READY P3b recreate "$small -DNO_DRAIN_BEFORE_READY" "$safety" ''
	row break NO_DRAIN_BEFORE_REJOIN P3b recreate "$small -DNO_DRAIN_BEFORE_REJOIN" "$safety" ''
	row break NO_REJOIN P5 recreate "$small -DNO_REJOIN" "$safety" ''
	row break MEMBERS_NOT_READY P3b recreate "$small -DMEMBERS_NOT_READY" "$safety" ''
	row break LOST_NOT_EXCLUDED P3b recreate "$small -DLOST_NOT_EXCLUDED" "$safety" ''
	row break NO_GENERATION_ROW_LOCK P0 recreate "$small -DNO_GENERATION_ROW_LOCK" "$safety" ''
	row break NO_CHECKPOINT_LOCK P2 recreate "$small -DNO_CHECKPOINT_LOCK" "$safety" ''
	row break JOIN_TAKES_HIGHEST P1 recreate "$small -DJOIN_TAKES_HIGHEST" "$safety" ''
	row break JOIN_TAKES_LOWEST P2 recreate "$small -DJOIN_TAKES_LOWEST" "$safety" ''
	row break NO_IDLE_TIMEOUT P5 recreate "$small -DNO_IDLE_TIMEOUT" "$safety" ''

	row break NO_REVISION_IN_FENCE P7 parking '-DNO_REVISION_IN_FENCE' "$safety" ''
	row break NO_REVISION_NO_PAUSE P4 parking '-DNO_REVISION_IN_FENCE -DNO_PAUSE' "$safety" ''
	row break PARKED_BEFORE_REVISION P6 parking '-DPARKED_BEFORE_REVISION' "$safety" ''
	row break NO_RAISE P5 parking '-DNO_RAISE' "$safety" ''

	local h='-DNWR=2 -DDRAWS=2 -DNP=1 -DPREPARED'
	local guard
	for guard in NO_PREVIOUS_BOUND NO_KNOWN_BOUND NO_FLOOR NO_PREPARED_BOUND \
		SCAN_BEFORE_SEQUENCE DRAW_BEFORE_LOCK UNLOCK_BEFORE_VISIBLE GLANCE_TO_SEQUENCE; do
		row break $guard H1 horizon "$h -D$guard" '-DSAFETY -DNOCLAIM' ''
	done
	row break ANNOUNCE_SEQUENCE H1 horizon '-DNWR=2 -DDRAWS=1 -DNP=2 -DANNOUNCE -DANNOUNCE_SEQUENCE' '-DSAFETY -DNOCLAIM' ''
	row break SNAPSHOT_BEFORE_HORIZON H2 horizon "$h -DSNAPSHOT_BEFORE_HORIZON" '-DSAFETY -DNOCLAIM' ''
	row break NO_FORGETTING H3 horizon '-DNWR=2 -DDRAWS=1 -DNP=1 -DNO_FORGETTING' '-DNFAIR=3' '-a -f -N progress'
	row break NO_LOOK_AT_HOLES H3 horizon '-DNWR=2 -DDRAWS=1 -DNP=1 -DNO_LOOK_AT_HOLES' '-DNFAIR=3' '-a -f -N progress'
}

# Which property pan's message speaks of.
property() {
	case "$1" in
	*'acceptance cycle'*) echo H3 ;;
	*'non-progress cycle'*) echo cycle ;;
	*'<12)'*) echo bound ;;
	*'gst[lseen['* | *'gst[(lseen['* | *'n<=1'*) echo P0 ;;
	*'ugen[s]==cgen[s]'* | *'cown[s]=='* | *'wst[w]!=3'*) echo P3a ;;
	*'ph[v]!=4'*) echo P3b ;;
	*'alive[0]'*) echo P5 ;;
	*'ufrom[s]'*'>='*) echo P2 ;;
	*'pos[0]'*'<='* | *'ufrom[s]'*'<='*) echo P1 ;;
	*'!(held)'*) echo P7 ;;
	*'letters==0'*) echo P6 ;;
	*'held||'*) echo P5 ;;
	*'letters&'*) echo P4 ;;
	*'mine[w]'*) echo H1 ;;
	*'events&'*) echo H2 ;;
	*) echo '?' ;;
	esac
}

# One row of the table on stdout; status 0 if it is as expected.
judge() {
	local kind=$1 name=$2 expected=$3 out=$4
	local errors states transitions depth seconds memory message verdict=ok found=- missed
	errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' "$out" | head -n 1)
	depth=$(sed -n 's/.*depth reached \([0-9]*\).*/\1/p' "$out" | head -n 1)
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$out" | head -n 1)
	transitions=$(sed -n 's/^ *\([0-9.e+]*\) transitions.*/\1/p' "$out" | head -n 1)
	seconds=$(sed -n 's/.*elapsed time \([0-9.]*\).*/\1/p' "$out" | head -n 1)
	memory=$(sed -n 's/^ *\([0-9.]*\)\stotal actual memory usage.*/\1/p' "$out" | head -n 1)
	message=$(grep -m 1 '^pan:1:' "$out")
	[ -n "$message" ] && found=$(property "$message")
	if ! grep -q '^(Spin Version' "$out" || grep -Eq 'Search not completed|out of memory|reached -DMEMLIM|max search depth' "$out" && [ "$kind" != break ]; then
		verdict='did not finish'
	elif [ "$kind" = break ] && [ "${errors:-0}" = 0 ]; then
		verdict='no counterexample'
	elif [ "$kind" = break ] && [ "$found" != "$expected" ]; then
		verdict="broke $found, not $expected"
	elif [ "$kind" != break ] && [ "${errors:-1}" != 0 ]; then
		verdict="broke $found"
	elif [ "$kind" = whole ]; then
		missed=$(sed '/unreached in claim/,$d' "$out" | grep -E '^\s.*\.pml:[0-9]+, state [0-9]+' | grep -vc -e '"-end-"')
		[ "$missed" = 0 ] || verdict="$missed statements never reached"
	fi
	printf '%-5s %-24s %-8s %10s %12s %6s %7s %8s  %s\n' "$kind" "$name" "$found" \
		"${states:--}" "${transitions:--}" "${depth:--}" "${seconds:--}" "${memory:--}" "$verdict"
	[ "$verdict" = ok ]
}

check() {
	local kind name expected model flags cc pan optimise=-O1
	IFS='|' read -r kind name expected model flags cc pan <<<"$1"
	[ "$name" = recreate ] && optimise=-O2
	mkdir -p "$work/$name" && cd "$work/$name" || return 1
	# shellcheck disable=SC2086 # lists of flags
	{
		spin -a $flags "$here/$model.pml" &&
			gcc $optimise -w $cc -o pan pan.c &&
			./pan -m200000 $pan
	} >out 2>&1
	judge "$kind" "$name" "$expected" out >row
	echo $? >status
	rm -f pan pan.[bchmpt]
}

install() {
	command -v spin >/dev/null && command -v gcc >/dev/null && return
	local root=()
	[ "$(id -u)" = 0 ] || root=(sudo -n)
	if command -v apt-get >/dev/null; then
		{ "${root[@]}" apt-get update && "${root[@]}" apt-get install -y spin gcc libc6-dev; } >"$work/apt" 2>&1
	fi
	command -v spin >/dev/null && command -v gcc >/dev/null && return
	echo 'model: FAILED: spin (6.5 or newer) and gcc are needed; on Debian: apt-get install spin gcc libc6-dev'
	exit 1
}

main() {
	case $SIZE in full | ci) ;; *)
		echo "model: FAILED: SIZE must be full or ci, got $SIZE"
		return 1
		;;
	esac
	if [ "${1:-}" = -l ]; then
		rows | cut -d '|' -f 1,2,5
		return
	fi
	work=$(mktemp -d)
	if [ -n "${KEEP:-}" ]; then
		echo "keeping $work"
	else
		trap 'rm -rf "$work"' EXIT
	fi
	install
	local line name names=() wanted=" $* "
	while IFS= read -r line; do
		name=$(cut -d '|' -f 2 <<<"$line")
		[ $# = 0 ] || [[ $wanted == *" $name "* ]] || continue
		names+=("$name")
		while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
		check "$line" &
	done < <(rows)
	wait
	printf '%-5s %-24s %-8s %10s %12s %6s %7s %8s  %s\n' kind name broken states transitions depth seconds MB verdict
	local bad=0
	for name in "${names[@]}"; do
		cat "$work/$name/row"
		[ "$(cat "$work/$name/status")" = 0 ] || bad=$((bad + 1))
	done
	if [ ${#names[@]} = 0 ]; then
		echo "model: FAILED: no such row: $*"
		return 1
	elif [ $bad != 0 ]; then
		echo "model: FAILED: $bad of ${#names[@]} rows are not as they must be"
		return 1
	fi
	echo "model: OK: ${#names[@]} rows, $SECONDS seconds"
}

main "$@"
