#!/usr/bin/env bash
# A real Slurm on one machine, for tests: munged, MariaDB, slurmdbd, slurmctld and some slurmds as plain background
# processes from Debian's packages (slurm-wlm 22.05 in Debian 12), without systemd, all private to one directory.
#
#   lab.sh install      the Debian packages, where they are missing; their commands go to $CLIENTS, not onto the PATH
#   lab.sh purge        remove what install installed
#   lab.sh up           start what is not running; a changed setting restarts slurmctld and slurmd, jobs survive
#   lab.sh down         cancel the jobs, stop everything, keep the state
#   lab.sh wipe         down, and delete the directory
#
# Then `export SLURM_CONF=$SLURMLAB/etc/slurm.conf PATH=$CLIENTS:$PATH` is all that sbatch, srun, sacct and submitit need.
# Never on the PATH by itself: where sbatch is found, programs (`--cluster auto`, submitit) take the machine for a cluster.
# Outside its directory it writes one tagged line of /etc/hosts (nodes must resolve) and, with install, packages.
#
#   SLURMLAB=/tmp/slurmlab  the directory; every user must be able to enter it (munge and MariaDB insist)
#   SLURMLAB_NODES=2        emulated nodes, called node1, node2, ...
#   SLURMLAB_CPUS=4         CPUs of a node, as Slurm believes
#   SLURMLAB_MEM=6000       MB of a node, as Slurm believes
#   SLURMLAB_GPUS=0         pretend GPUs of a node
#   SLURMLAB_PORT=17000     slurmctld; slurmd i at +i, slurmdbd at +90, MariaDB at +91
#   SLURMLAB_ACCOUNTING=1   0: no slurmdbd, no MariaDB; sacct says "accounting storage is disabled"
#   SLURMLAB_WARN=1         0: preemption comes as SIGTERM alone, as on sites without preempt_send_user_signal
#   SLURMLAB_AFFINITY=0     1: task/affinity binds a step to the cores it asked for
#   SLURMLAB_EXTRA=''       more lines for slurm.conf (of a key given twice the last one counts)
#
# Partitions: main (default), low (preemptible: USR2 at once, requeued after 20 s), high (preempts low).
set -euo pipefail
CLIENTS=/usr/local/lib/slurmlab/bin
export LC_ALL=C PATH="$CLIENTS:${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin"
LAB=${SLURMLAB:-/tmp/slurmlab}
NODES=${SLURMLAB_NODES:-2} CPUS=${SLURMLAB_CPUS:-4} MEM=${SLURMLAB_MEM:-6000} GPUS=${SLURMLAB_GPUS:-0}
PORT=${SLURMLAB_PORT:-17000} ACCOUNTING=${SLURMLAB_ACCOUNTING:-1}
WARN=${SLURMLAB_WARN:-1} AFFINITY=${SLURMLAB_AFFINITY:-0}
HOST=$(hostname -s)
TAG="# slurmlab $LAB;"
export SLURM_CONF=$LAB/etc/slurm.conf
say() { printf '%(%H:%M:%S)T lab: %s\n' -1 "$*"; }
die() { logs >&2; say "FAILED: $*" >&2; exit 1; }
logs() {       # what the daemons said last
  local one
  for one in "$LAB"/log/*; do
    [ ! -s "$one" ] || { echo "--- $one"; tail -n 15 "$one"; }
  done
}

# ------------------------------------------------------------------------------------------------- packages

COMMANDS="sacct sacctmgr salloc sattach sbatch sbcast scancel scontrol scrontab sdiag sinfo sprio squeue sreport srun sshare
  sstat strigger"
PACKAGES="munge slurmctld slurmd slurm-client slurmdbd mariadb-server"

divert() {     # before the packages arrive: dpkg then lays their commands down in $CLIENTS
  local one
  mkdir -p "$CLIENTS"
  for one in $COMMANDS; do
    dpkg-divert --quiet --local --rename --divert "$CLIENTS/$one" --add "/usr/bin/$one" || die "dpkg-divert $one"
  done
}

apt() {        # quiet, without questions, and without starting a service; the log is shown where it fails
  local policy=/usr/sbin/policy-rc.d mine=0 log status=0
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' > $policy; chmod 755 $policy; mine=1; fi
  log=$(mktemp)
  DEBIAN_FRONTEND=noninteractive timeout 900 apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" \
    > "$log" 2>&1 </dev/null || status=$?
  [ $status = 0 ] || tail -40 "$log" >&2
  [ $mine = 0 ] || rm -f $policy
  rm -f "$log"
  return $status
}

install_packages() {
  local all=1 one
  for one in slurmctld slurmd sbatch slurmdbd munged mariadbd; do command -v "$one" >/dev/null || all=0; done
  [ $all = 0 ] || { say "all packages are here, sbatch is $(command -v sbatch)"; return 0; }
  command -v apt-get >/dev/null || die "no apt-get here: install munge, slurmctld, slurmd, slurmdbd and MariaDB by hand"
  [ "$(id -u)" = 0 ] || die "installing packages needs root"
  say "installing Debian packages"
  command -v sbatch >/dev/null || divert
  fetch || { say "once more in 15 s"; sleep 15; fetch; } || { say "once more in a minute"; sleep 60; fetch; } \
    || die "apt-get"
  command -v sbatch >/dev/null || die "sbatch is not there, although its package is installed"
  say "installed Slurm $(dpkg-query -W -f '${Version}' slurm-client), sbatch is $(command -v sbatch)"
}

fetch() {      # a mirror that is being updated, or another apt at work, is no reason to give up: see install_packages
  dpkg --configure -a >/dev/null 2>&1 || true   # of one that was killed
  apt update && apt install -y --no-install-recommends $PACKAGES
}

purge() {      # munge and MariaDB stay: nothing takes a machine for a cluster because of them
  local one
  apt purge -y slurmctld slurmd slurm-client slurmdbd || die "apt-get purge"
  for one in $COMMANDS; do dpkg-divert --quiet --local --rename --remove "/usr/bin/$one"; done
  rm -rf "${CLIENTS%/bin}"
}

# ------------------------------------------------------------------------------------------------ processes
starttime() {  # of a live process; a zombie counts as gone, for PID 1 of a container may not reap it
  local fields
  fields=$( { sed 's/.*) //' "/proc/$1/stat"; } 2>/dev/null) && [ "${fields%% *}" != Z ] && cut -d' ' -f20 <<<"$fields"
}
pid() { cat "$LAB/run/$1.pid" 2>/dev/null; }
alive() {      # is the process of run/NAME.pid still the one we started?
  local p t
  p=$(pid "$1") && [ -n "$p" ] && t=$(starttime "$p") && [ "$t" = "$(cat "$LAB/run/$1.start" 2>/dev/null)" ]
}
launch() {     # launch NAME COMMAND...: detached; the daemons stay in the foreground, so the pid is theirs
  local name=$1 waited; shift
  if alive "$name"; then return 0; fi
  rm -f "$LAB/run/$name.pid" "$LAB/run/$name.start"
  setsid bash -c 'echo $$ > "$0"; exec "$@"' "$LAB/run/$name.pid" "$@" </dev/null >>"$LAB/log/$name.out" 2>&1 9>&- &
  for ((waited = 0; waited < 1200; waited++)); do [ ! -s "$LAB/run/$name.pid" ] || break; sleep 0.05; done
  starttime "$(pid "$name")" > "$LAB/run/$name.start" || die "$name did not start"
}
ready() {      # ready NAME SECONDS COMMAND...: wait until the command succeeds
  local name=$1 seconds=$2 end=$((SECONDS + $2)); shift 2
  until "$@" >"$LAB/log/ready.out" 2>&1; do
    alive "$name" || die "$name died"
    [ $SECONDS -lt $end ] || die "$name is not ready after $seconds seconds"
    sleep 0.2
  done
  say "$name is ready"
}
stop() {       # stop NAME SECONDS: TERM, wait, KILL
  local name=$1 seconds=$2 p i
  if p=$(pid "$name") && alive "$name"; then
    kill -TERM "$p" 2>/dev/null || true
    for ((i = 0; i < seconds * 10; i++)); do alive "$name" || break; sleep 0.1; done
    ! alive "$name" || { say "$name does not stop: KILL"; kill -KILL "$p" 2>/dev/null || true; }
    for ((i = 0; i < 100; i++)); do alive "$name" || break; sleep 0.1; done
  fi
  rm -f "$LAB/run/$name.pid" "$LAB/run/$name.start"
}
slurmds() { local one; for one in "$LAB"/run/slurmd-*.pid; do [ ! -e "$one" ] || basename "$one" .pid; done | grep -v ctl || true; }

# -------------------------------------------------------------------------------------------- configuration
names() {      # submitit takes the first node's name for MASTER_ADDR, so names must resolve
  local line hosts
  line="127.0.0.1 $(seq -s ' ' -f 'node%g' 1 "$NODES") $HOST $TAG"
  if ! grep -qxF "$line" /etc/hosts; then   # rewritten in place: it may be a bind mount
    hosts=$(grep -vF "$TAG" /etc/hosts || true)
    printf '%s\n%s\n' "$hosts" "$line" > /etc/hosts || say "cannot write /etc/hosts: node names will not resolve"
  fi
}

accounting_conf() {
  if [ "$ACCOUNTING" = 0 ]; then echo AccountingStorageType=accounting_storage/none; return; fi
  cat <<E
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 90))
# connections to slurmdbd take munge's socket from here, not from AuthInfo
AccountingStoragePass=$LAB/run/munge.socket
E
}

slurm_conf() {
  cat <<E
# generated by lab.sh
ClusterName=lab
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# cred_expire is also how long a requeued job waits before it starts again (default 120 s)
AuthInfo=socket=$LAB/run/munge.socket,cred_expire=15
StateSaveLocation=$LAB/state
SlurmctldPidFile=$LAB/run/slurmctld.ctl.pid
SlurmdPidFile=$LAB/run/slurmd-%n.ctl.pid
SlurmdSpoolDir=$LAB/spool/%n
SlurmctldLogFile=$LAB/log/slurmctld.log
SlurmdLogFile=$LAB/log/slurmd-%n.log
MailProg=/bin/true
# no cgroups: they are not to be had in every container
ProctrackType=proctrack/linuxproc
TaskPlugin=task/$([ "$AFFINITY" = 0 ] && echo none || echo affinity)
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
MpiDefault=none
SwitchType=switch/none
# CPUs and memory are consumable; a node is as large as we say
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_min_interval=200000,batch_sched_delay=1
PriorityType=priority/multifactor
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
$([ "$WARN" = 0 ] || echo SlurmctldParameters=preempt_send_user_signal)
JobRequeue=1
ReturnToService=2
RebootProgram=/bin/false
FirstJobId=$(cat "$LAB/etc/first_job_id")
MaxArraySize=10001
MaxJobCount=20000
MinJobAge=300
KillWait=5
# A daemon that gets no core for a minute has not died: nothing is declared down, undelivered or unkillable for that.
SlurmctldTimeout=60
SlurmdTimeout=300
MessageTimeout=100
BatchStartTimeout=300
InactiveLimit=0
UnkillableStepTimeout=600
JobCompType=jobcomp/none
SlurmctldDebug=info
SlurmdDebug=info
GresTypes=gpu
$(accounting_conf)
E
  local i gres=
  [ "$GPUS" = 0 ] || gres=" Gres=gpu:$GPUS"
  for i in $(seq 1 "$NODES"); do
    echo "NodeName=node$i NodeHostname=$(node_host "$i") NodeAddr=127.0.0.1 Port=$((PORT + i)) CPUs=$CPUS" \
         "RealMemory=$MEM State=UNKNOWN$gres"
  done
  cat <<'E'
PartitionName=main Nodes=ALL Default=YES PriorityTier=10 DefMemPerCPU=200 MaxTime=INFINITE DefaultTime=30 State=UP
PartitionName=low  Nodes=ALL PriorityTier=1  DefMemPerCPU=200 MaxTime=INFINITE DefaultTime=30 State=UP PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=ALL PriorityTier=50 DefMemPerCPU=200 MaxTime=INFINITE DefaultTime=30 State=UP PreemptMode=OFF
E
  printf '%s\n' "${SLURMLAB_EXTRA:-}"
}

uts() { unshare --uts true 2>/dev/null; }   # then `hostname` in a job says node1, node2, ...
node_host() { if uts; then echo "node$1"; else echo "$HOST"; fi; }

gres_conf() {  # File= must be a character device; copies of /dev/null will do
  [ "$GPUS" != 0 ] || return 0
  local i k
  mkdir -p "$LAB/dev"
  for k in $(seq 0 $((GPUS - 1))); do [ -c "$LAB/dev/gpu$k" ] || mknod "$LAB/dev/gpu$k" c 1 3; done
  for i in $(seq 1 "$NODES"); do
    for k in $(seq 0 $((GPUS - 1))); do echo "NodeName=node$i Name=gpu File=$LAB/dev/gpu$k Flags=nvidia_gpu_env"; done
  done
}

database_conf() {
  local password
  [ -s "$LAB/etc/db.pass" ] || ( umask 077; od -An -N12 -tx1 /dev/urandom | tr -d ' \n' > "$LAB/etc/db.pass" )
  password=$(cat "$LAB/etc/db.pass")
  ( umask 077; cat > "$LAB/etc/slurmdbd.conf" <<E
AuthType=auth/munge
AuthInfo=socket=$LAB/run/munge.socket
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=$((PORT + 90))
SlurmUser=root
PidFile=$LAB/run/slurmdbd.ctl.pid
LogFile=$LAB/log/slurmdbd.log
DebugLevel=info
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 91))
StorageUser=slurm
StoragePass=$password
StorageLoc=slurm_acct_db
CommitDelay=1
E
  )
  chmod 600 "$LAB/etc/slurmdbd.conf"
  cat > "$LAB/etc/my.cnf" <<E
[mariadbd]
datadir=$LAB/mysql
socket=$LAB/mysql/mariadb.sock
pid-file=$LAB/mysql/mariadbd.pid
log-error=$LAB/log/mariadb.log
bind-address=127.0.0.1
port=$((PORT + 91))
user=mysql
skip-name-resolve
skip-log-bin
innodb_buffer_pool_size=128M
innodb_log_file_size=32M
innodb_lock_wait_timeout=900
innodb_flush_log_at_trx_commit=2
max_allowed_packet=32M
performance_schema=off
E
}

write_conf() {  # returns 0 if a file that the running daemons have read is another one now
  local changed=1 name
  [ -s "$LAB/etc/munge.key" ] || ( umask 077; head -c 1024 /dev/urandom > "$LAB/etc/munge.key" )
  chmod 600 "$LAB/etc/munge.key"
  # submitit names its files after job ids: a wiped lab that began at job 1 again would find those of its former life
  [ -s "$LAB/etc/first_job_id" ] || echo "$((1000 * $(shuf -i 10-60000 -n 1) + 1))" > "$LAB/etc/first_job_id"
  slurm_conf > "$LAB/etc/slurm.conf.new"
  gres_conf > "$LAB/etc/gres.conf.new"
  printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' > "$LAB/etc/cgroup.conf"
  for name in slurm.conf gres.conf; do
    cmp -s "$LAB/etc/$name.new" "$LAB/etc/$name" || changed=0
    mv "$LAB/etc/$name.new" "$LAB/etc/$name"
  done
  return $changed
}

# ------------------------------------------------------------------------------------------------ up, down
port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
sql() { mariadb --no-defaults -uroot -S "$LAB/mysql/mariadb.sock" -e "$1"; }
nodes_up() { [ "$(timeout 60 sinfo -hN -p main -t idle,mixed,allocated -o %N | sort -u | wc -l)" -ge "$NODES" ]; }

up_database() {
  database_conf
  if [ ! -d "$LAB/mysql/mysql" ]; then
    install -d -o mysql -g mysql -m 750 "$LAB/mysql"
    mariadb-install-db --defaults-file="$LAB/etc/my.cnf" --user=mysql --datadir="$LAB/mysql" --skip-test-db \
      --auth-root-authentication-method=normal > "$LAB/log/mariadb-install.log" 2>&1 \
      || { tail -20 "$LAB/log/mariadb-install.log"; die mariadb-install-db; }
  fi
  touch "$LAB/log/mariadb.log"; chown mysql:mysql "$LAB/log/mariadb.log"
  launch mariadbd mariadbd --defaults-file="$LAB/etc/my.cnf"
  ready mariadbd 180 timeout 30 mariadb-admin --no-defaults -uroot -S "$LAB/mysql/mariadb.sock" ping
  sql "CREATE DATABASE IF NOT EXISTS slurm_acct_db;
       CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY '$(cat "$LAB/etc/db.pass")';
       GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';" || die "the set-up of the database"
  launch slurmdbd slurmdbd -D
  ready slurmdbd 180 port_open $((PORT + 90))
  ready slurmdbd 180 timeout 60 sacctmgr -n show cluster
}

up() {
  [ "$(id -u)" = 0 ] || die "run me as root"
  mkdir -p "$LAB"/{etc,run,log,state,spool}
  chmod 755 "$LAB" "$LAB"/{etc,run,log,state,spool}
  exec 9>"$LAB/.lock"; flock -w 120 9 || die "another call holds the lock"
  names
  if write_conf; then local one; for one in $(slurmds) slurmctld; do stop "$one" 30; done; fi
  alive munged || rm -f "$LAB"/run/munge.socket*
  launch munged munged -F --socket="$LAB/run/munge.socket" --key-file="$LAB/etc/munge.key" \
    --pid-file="$LAB/run/munged.ctl.pid" --log-file="$LAB/log/munged.log" --seed-file="$LAB/run/munged.seed" --num-threads=2
  ready munged 60 timeout 10 bash -c "munge -S '$LAB/run/munge.socket' -n | unmunge -S '$LAB/run/munge.socket'"
  [ "$ACCOUNTING" = 0 ] || up_database
  launch slurmctld slurmctld -D -i
  ready slurmctld 180 timeout 60 bash -c 'scontrol ping | grep -q "is UP"'
  local i
  for i in $(seq 1 "$NODES"); do
    mkdir -p "$LAB/spool/node$i"
    if uts; then launch "slurmd-node$i" unshare --uts sh -c 'hostname "$0" && exec slurmd -D -N "$0"' "node$i"
    else launch "slurmd-node$i" slurmd -D -N "node$i"; fi
  done
  sleep 0.5
  for i in $(sinfo -hN -p main -t down,drain,fail -o %N | sort -u); do scontrol update "NodeName=$i" State=RESUME || true; done
  ready "slurmd-node$NODES" 180 nodes_up
  timeout 180 srun -N "$NODES" -n "$NODES" -J up-check true || die "srun does not work"
  say "up: $(sinfo -h -p main -o '%D nodes, %C CPUs allocated/idle/other/total'); export SLURM_CONF=$SLURM_CONF"
}

steps() {      # this lab's slurmstepds and the processes of its jobs: they carry our SLURM_CONF
  local directory p environ
  for directory in /proc/[0-9]*; do
    p=${directory#/proc/}; [ "$p" != $$ ] || continue
    environ=$( { tr '\0' '\n' <"$directory/environ"; } 2>/dev/null) || continue
    grep -qxF "SLURM_CONF=$SLURM_CONF" <<<"$environ" || continue
    if grep -q '^SLURM_JOB_ID=' <<<"$environ" || grep -q '^slurmstepd:' <<<"$(tr '\0' ' ' <"$directory/cmdline")"; then
      echo "$p"
    fi
  done 2>/dev/null
}

down() {
  [ -d "$LAB/run" ] || { say "nothing at $LAB"; return 0; }
  exec 9>"$LAB/.lock"; flock -w 120 9 || die "another call holds the lock"
  local name i left
  if alive slurmctld; then   # jobs first, so that no step outlives its slurmd
    timeout 15 squeue -h -o %A 2>/dev/null | sort -un | xargs -r timeout 15 scancel 2>/dev/null || true
    for ((i = 0; i < 60; i++)); do [ -n "$(timeout 10 squeue -h -o %i 2>/dev/null)" ] || break; sleep 0.2; done
  fi
  for name in $(slurmds); do ! alive "$name" || kill -TERM "$(pid "$name")" || true; done   # all at once, then one by one
  for name in $(slurmds); do stop "$name" 15; done
  stop slurmctld 30
  left=$(steps || true)
  [ -z "$left" ] || { say "killing what is left of jobs:" $left; kill -KILL $left 2>/dev/null || true; }
  stop slurmdbd 30
  stop mariadbd 60
  stop munged 10
  rm -f "$LAB"/run/munge.socket*
  say "down"
}

wipe() {
  down
  local hosts
  hosts=$(grep -vF "$TAG" /etc/hosts || true)
  [ -z "$hosts" ] || printf '%s\n' "$hosts" > /etc/hosts
  local tried
  for tried in 1 2 3 4 5 6 7 8 9 10; do   # something that was killed may still be writing
    rm -rf "$LAB" && return 0
    sleep 1
  done
  die "rm -rf $LAB"
}

case ${1:-} in
  install) install_packages ;;
  purge) purge ;;
  up|down|wipe) "$1" ;;
  *) sed -n '2,/^set -/{/^set -/!p}' "$0"; exit 2 ;;
esac
