# prune: parts of a model go; the result runs; what cannot be is refused
needs model smollm2-135m-instruct.q4_1.gguf
$ head -c 20000 $SHARED/oracle/text/wikitext2-test.txt > text; mote prune --prune-layers 12,20-21 $MODELS/smollm2-135m-instruct.q4_1.gguf out.gguf | head -1
> depth: 27 of 30 layers are left; gone: 12, 20, 21
$ mote show --json out.gguf | python3 -c 'import json,sys; print(json.load(sys.stdin)["metadata"]["llama.block_count"])'
> 27
$ mote run -m out.gguf -p 'Hello' -n 4 --temp 0 | wc -l
> 1
$ head -c 6000 text | python3 -c 'import json,sys; t = sys.stdin.read(); print(json.dumps({"text": t[:3000]})); print(); print(json.dumps({"messages": [{"role": "user", "content": t[3000:]}]}))' > t.jsonl; head -c 6000 text | sed 's/$//' > t.txt; for f in t.jsonl t.txt; do mote prune --vocab 9000 --no-smoke -f $f $MODELS/smollm2-135m-instruct.q4_1.gguf $f.gguf | grep -o '[0-9.]* % of the text'; done | uniq | wc -l
> 1
$ echo '{"text": 3}' > bad.jsonl; mote prune --vocab 9000 -f bad.jsonl $MODELS/smollm2-135m-instruct.q4_1.gguf out.gguf
! bad.jsonl, line 1: expected "text" or "messages"
? 1
$ mote prune --vocab 20000 -f text $MODELS/smollm2-135m-instruct.q4_1.gguf out.gguf --json | python3 -c 'import json,sys; d = json.load(sys.stdin); print(d["steps"][0]["tokens_left"], d["params_to"] < d["params_from"])'
> 20000 True
$ mote tokenize -m out.gguf --special --ids 'Hello world <|im_end|>' | python3 -c 'import json,sys; print(max(json.load(sys.stdin)) < 20000)'
> True
# llama.cpp reads what is written, and a shared file once it is converted
$ mote prune --drop-layers 2 --depth-by influence --ff 1472 --merge-kv 1 --vocab 30000 --calib-tokens 512 -f text $MODELS/smollm2-135m-instruct.q4_1.gguf out.gguf > said; $SHARED/peers/run llamacpp llama-perplexity -m out.gguf -f text -c 128 --chunks 4 -t 2 2>&1 | grep -o 'PPL = [0-9.]*' > peer; mote perplexity -m out.gguf -f text -c 128 --chunks 4 -t 2 | grep -o 'PPL = [0-9.]*' > ours; cat peer ours | python3 -c 'import sys; a, b = [float(l.split()[2]) for l in sys.stdin]; print(abs(a / b - 1) < 0.03)'
> True
$ mote prune --share 13-14 --share-rank 16 --calib-tokens 512 -f text $MODELS/smollm2-135m-instruct.q4_1.gguf shared.gguf > said; mote convert shared.gguf out.gguf > said; $SHARED/peers/run llamacpp llama-perplexity -m out.gguf -f text -c 128 --chunks 4 -t 2 2>&1 | grep -o 'PPL = [0-9.]*' > peer; mote perplexity -m shared.gguf -f text -c 128 --chunks 4 -t 2 | grep -o 'PPL = [0-9.]*' > ours; cat peer ours | python3 -c 'import sys; a, b = [float(l.split()[2]) for l in sys.stdin]; print(abs(a / b - 1) < 0.03)'
> True
$ mote prune --upcycle 3 --drop-experts 1 --calib-tokens 128 -f text $MODELS/smollm2-135m-instruct.q4_1.gguf out.gguf | grep '^experts: 2'; $SHARED/peers/run llamacpp llama-perplexity -m out.gguf -f text -c 128 --chunks 2 -t 2 2>&1 | grep -o 'PPL = [0-9.]*' > peer; mote perplexity -m out.gguf -f text -c 128 --chunks 2 -t 2 | grep -o 'PPL = [0-9.]*' > ours; cat peer ours | python3 -c 'import sys; a, b = [float(l.split()[2]) for l in sys.stdin]; print(abs(a / b - 1) < 0.03)'
> experts: 2 of 3 are left in each of 30 layers, by saliency
> True
$ mote prune --split-experts 16 --experts-used 14 --shared-experts 4 --calib-tokens 1024 -f text $MODELS/smollm2-135m-instruct.q4_1.gguf out.gguf | head -1; $SHARED/peers/run llamacpp llama-perplexity -m out.gguf -f text -c 128 --chunks 2 -t 2 2>&1 | grep -o 'PPL = [0-9.]*' > peer; mote perplexity -m out.gguf -f text -c 128 --chunks 2 -t 2 | grep -o 'PPL = [0-9.]*' > ours; cat peer ours | python3 -c 'import sys; a, b = [float(l.split()[2]) for l in sys.stdin]; print(abs(a / b - 1) < 0.03)'
> experts: each feed-forward is now 16 of 96 neurons; 14 work, 4 of them for all tokens
> True
# forms of our own: llama.cpp refuses them
$ mote prune --block-layers 5-7 $MODELS/smollm2-135m-instruct.q4_1.gguf out.gguf | head -1; mote run -m out.gguf -p 'Hello' -n 4 --temp 0 | wc -l; $SHARED/peers/run llamacpp llama-perplexity -m out.gguf -f text -c 128 --chunks 2 2>&1 | grep -c 'failed to load model' | sed 's/[1-9][0-9]*/refused/'
> attention: 3 of 30 layers read blocks of 64 keys, the first, the last 1 and 4 chosen ones: 5, 6, 7
> 1
> refused
$ mote prune --linear-layers 5 --linear-steps 2 --calib-tokens 128 -f text $MODELS/smollm2-135m-instruct.q4_1.gguf out.gguf | head -1; mote run -m out.gguf -p 'Hello' -n 4 --temp 0 | wc -l; $SHARED/peers/run llamacpp llama-perplexity -m out.gguf -f text -c 128 --chunks 2 2>&1 | grep -c 'failed to load model' | sed 's/[1-9][0-9]*/refused/'
> attention: 1 of 30 layers are linear behind 64 keys, 128 features a head: 5
> 1
> refused
$ mote prune --window 128 --window-layers 5-7 $MODELS/smollm2-135m-instruct.q4_1.gguf out.gguf | head -1
> attention: 3 of 30 layers see 128 keys: 5, 6, 7
$ mote prune --dynamic 0.3 --calib-tokens 1024 -f text $MODELS/smollm2-135m-instruct.q4_1.gguf out.gguf | head -1
> dynamic: 30 % of the neurons of 30 layers will be left out, in groups of 32 by each token's gates
$ for how in '' --no-dynamic '--dynamic 0.8'; do mote perplexity -m out.gguf -f text -c 128 --chunks 2 -t 2 $how | grep -o 'PPL = [0-9.]*'; done | python3 -c 'import sys; a, b, c = [float(l.split()[2]) for l in sys.stdin]; print(0.9 < a / b < 1.3, a != b, c > a)'
> True True True
$ mote perplexity --dynamic 0.3 -m $MODELS/smollm2-135m-instruct.q4_1.gguf -f text -c 128 --chunks 1
! mote prune --dynamic
? 1
$ mote prune --split-experts 7 $MODELS/smollm2-135m-instruct.q4_1.gguf never.gguf
! 1536 neurons in 7 experts
? 1
$ mote prune --params 1M -f text $MODELS/smollm2-135m-instruct.q4_1.gguf never.gguf
! the least is
? 1
$ mote prune $MODELS/smollm2-135m-instruct.q4_1.gguf never.gguf
! nothing to take away
? 2
$ mote prune --params much $MODELS/smollm2-135m-instruct.q4_1.gguf never.gguf
! takes a number such as 100M
? 2
$ mote prune --vocab 4000 $MODELS/smollm2-135m-instruct.q4_1.gguf never.gguf
! calibration text
? 2
$ ls never.gguf* 2>/dev/null | wc -l
> 0
