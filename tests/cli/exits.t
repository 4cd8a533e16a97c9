# extra heads at work: guesses change nothing; tokens that leave early are counted; mistakes are told
$ for i in $(seq 1 200); do echo "{\"text\": \"The $i dogs jumped over the fence $((i % 7)) times, as dogs do when the sun is out. \"}"; done > text.jsonl; mote train --depth 3 --width 64 --vocab 320 -c 64 -b 4 -t 1 --steps 6 -f text.jsonl -q -o tiny.gguf > said
$ mote heads -m tiny.gguf --exits 1,2 --medusa 2 --untrained -o heads.gguf > said
$ for s in off auto exit medusa; do mote run -m tiny.gguf --heads heads.gguf --spec $s --temp 0.7 --seed 3 -n 40 --ignore-eos --raw -t 2 --stats -p 'The dogs jumped' > g$s 2> stats$s; done; mote run -m tiny.gguf --spec off --temp 0.7 --seed 3 -n 40 --ignore-eos --raw -t 1 -p 'The dogs jumped' > plain; cmp plain goff && cmp plain gauto && cmp plain gexit && cmp plain gmedusa
$ grep -c 'exit [0-9]* of [0-9]*, Medusa [0-9]* of [0-9]*' statsexit statsmedusa
> statsexit:1
> statsmedusa:1
$ for x in 0 2; do mote run -m tiny.gguf --heads heads.gguf --exit-threshold $x --spec off --temp 0 -n 10 --ignore-eos --raw --json -p 'The dogs' < /dev/null | python3 -c 'import json,sys; d = json.load(sys.stdin); print(d.get("exits"))'; done
> {'tokens': 10, 'layers': 1.0, 'of_layers': 3, 'exits': [{'layer': 1, 'left': 10}, {'layer': 2, 'left': 0}]}
> None
$ mote run -m tiny.gguf --heads heads.gguf --exit-threshold 0 --spec off --temp 0 -n 10 --ignore-eos --raw --stats -p 'The dogs' > said
! exits: 10 tokens went through 1.00 of 3 layers on average; left behind layer 1 10, behind layer 2 0
$ python3 -c 'import json; open("t.txt", "w").write("".join(json.loads(l)["text"] for l in open("text.jsonl")))'; for x in "" "--heads heads.gguf" "--heads heads.gguf --exit-threshold 1.5"; do mote perplexity -m tiny.gguf $x -f t.txt -c 64 --chunks 4 --json; done | uniq | wc -l
> 1
$ mote perplexity -m tiny.gguf --heads heads.gguf --exit-threshold 0 -f t.txt -c 64 --chunks 4 --json | python3 -c 'import json,sys; d = json.load(sys.stdin); print(d["scored"], d["exits"]["layers"])'
> 124 1.0
$ mote bench -m tiny.gguf --heads heads.gguf --exit-threshold 0 -p 0 -n 4 -r 1 -t 1 -o json | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["layers"])'
> 1.0
# mistakes
$ mote run -m tiny.gguf --exit-threshold 0.9 hello
! there are no early exits
? 2
$ mote run -m tiny.gguf --heads heads.gguf --exit-threshold much hello
! --exit-threshold takes a number
? 2
$ mote run -m tiny.gguf --spec medusa hello
! there are no Medusa heads
? 2
$ mote run -m tiny.gguf --heads heads.gguf --exit-threshold 0.5 --spec exit hello
! exit_threshold is 0.5
? 2
$ mote run -m tiny.gguf --heads tiny.gguf hello
! tiny\.gguf: not a heads file
? 1
