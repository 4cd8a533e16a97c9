# what `mote bench --train` prints
needs shared
$ mote bench -m $SHARED/oracle/train/llama --train --sequences 3 --length 20 -r 2 -t 2 --precision bf16 -o jsonl | python3 -c 'import json,sys; d = json.load(sys.stdin); print(d["n_sequences"], d["n_tokens"], d["precision"], len(d["samples_ns"]), 4 < d["loss"] < 8, abs(d["tokens_per_second"] * sum(sorted(d["samples_ns"])) / 2 / 60e9 - 1) < 0.01, d["step_ops"] > 6 * 60 * 5000, "share" in d)'
> 3 20 bf16 2 True True True False
$ mote bench -m $SHARED/oracle/train/lfm2 --train --length 16 -r 1 -t 1 --checkpoint | sed 's/[0-9][0-9.]* [kMG]*B/x B/; s/| [0-9.]* | [0-9.]* | [0-9.]* | [0-9.]* | x B | [0-9]* |/| figures |/'
> | model | threads | step | t/s | forward ms | back ms | AdamW ms | activations | GFLOP/s |
> | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |
> | lfm2 | 1 | 2 x 16 f32 | figures |
$ mote bench -m $SHARED/oracle/arch/mamba-dense.gguf --train
! layer 0: the block 'mamba' can be run but not trained
? 1
$ mote bench --sequences 2
! --sequences, --length, --precision and --checkpoint tell what a step of training is: they need --train
? 2
$ mote bench --train -p 5
! --train goes with --sequences, --length and --precision, not with -p, -n, -d, -npl or --profile
? 2
