# Sourced by the setup lines of a cluster file: does what a job is for in milliseconds, without Python, and ends the job.
# The queue, the arrays, their caps and the work orders are real; the numbers are not. RESULTS is the results folder.
#
# Leaves in $RESULTS/pretended: a line in `worked` for every run that was worked on, and in `at-once` how many jobs there
# were beside this one. While $RESULTS/pretended/hold exists, jobs do not end.
pretended=$RESULTS/pretended
me=$pretended/running/$SLURM_JOB_ID
mkdir -p "$me"
set -- "$pretended"/running/*
echo $# >> "$pretended/at-once"

array=${SLURM_JOB_NAME##*-} beginning=${SLURM_JOB_NAME%-*}  # experiment-token-array, and no - in these experiments
folder=$RESULTS/jobs/${beginning#*-}
mkdir -p "$folder/started"
: > "$folder/started/${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
evaluation=$(sed -n 's/.*"\(contrastive-[0-9a-f]*\)".*/\1/p' "$RESULTS"/experiments/*.json | head -n 1)
order=$folder/tasks/$array-$(printf %05d "${SLURM_ARRAY_TASK_ID:-0}").json
for run in $(sed -n '/"runs": \[/,/\]/s/^ *"\([0-9a-f]*\)",\{0,1\}$/\1/p' "$order"); do
  echo "$run" >> "$pretended/worked"
  while [ -e "$pretended/hold" ]; do sleep 0.2; done
  mkdir -p "$RESULTS/runs/$run/evaluations"
  echo "{\"run\": \"$run\", \"values\": {}}" > "$RESULTS/runs/$run/evaluations/$evaluation.json"
  echo "{\"run\": \"$run\", \"status\": \"trained\"}" > "$RESULTS/runs/$run/outcome.json"
done
rmdir "$me"
exit 0
