# heads: exits and Medusa heads for a small model of two layers; what cannot be is refused
$ for i in $(seq 1 200); do echo "{\"text\": \"The $i dogs jumped over the fence $((i % 7)) times, as dogs do when the sun is out. \"}"; done > text.jsonl; mote train --depth 3 --width 64 --vocab 320 -c 64 -b 4 -t 1 --steps 6 -f text.jsonl -q -o tiny.gguf > said
$ mote heads tiny.gguf -f text.jsonl --exits 1 --medusa 2 --steps 30 -c 64 -b 4 --lr 1e-2 --held-out 0.2 -t 1 -q -o heads.gguf
>~ heads\.gguf: 3 heads, .*, 30 steps, \d+\.\d thousand tokens in \d+:\d\d
>~ behind layer 1: the model's likeliest token \d+\.\d % \(before \d+\.\d %\), divergence \d+\.\d+ \(before \d+\.\d+\)
>~ 1 further on: +the model's likeliest token .*
>~ 2 further on: +the model's likeliest token .*
# it was finished: the same command measures and writes it again
$ mote heads tiny.gguf -f text.jsonl --exits 1 --medusa 2 --steps 30 -c 64 -b 4 --lr 1e-2 --held-out 0.2 -t 1 -q --json -o heads.gguf | python3 -c 'import json,sys; d = json.load(sys.stdin); print(d["resumed_at"], [(h["layer"], h["offset"], h["divergence"] < h["divergence_before"]) for h in d["heads"]])'
> 30 [(1, 0, True), (3, 1, True), (3, 2, True)]
$ mote show --json heads.gguf | python3 -c 'import json,sys; m = json.load(sys.stdin)["metadata"]; print(m["general.type"], m["mote.heads.n_layer"])'
> heads 3
$ mote heads -m tiny.gguf --exits auto --untrained -o begin.gguf
>~ begin\.gguf: 2 heads, .*
> behind layer 1: not measured
> behind layer 2: not measured
$ mote heads tiny.gguf -f text.jsonl --exits 3 -o never.gguf
! behind layer 3: the model has 3 layers, expected 1 to 2
? 1
$ mote heads tiny.gguf -f text.jsonl --exits one -o never.gguf
! expected numbers of layers
? 2
$ mote heads tiny.gguf -f nowhere.txt -o never.gguf
! nowhere\.txt
? 4
$ mote heads tiny.gguf -o never.gguf
! what should the heads learn from
? 2
$ mote heads tiny.gguf -f text.jsonl
! where to
? 2
$ ls never.gguf 2>/dev/null | wc -l
> 0
