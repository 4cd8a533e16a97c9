# tasks over made-up items
needs model smollm2-135m-instruct.q4_1.gguf
$ mote eval --list | head -3 | cut -d' ' -f1
> hellaswag
> arc_easy
> arc_challenge
$ printf '{"goal":"How do I boil an egg?","sol1":"Put it into boiling water for some minutes.","sol2":"Put it into the freezer for some minutes.","label":0}\n{"goal":"no solutions"}\n' > piqa.jsonl
$ printf '{"passage":"Snow is white.","question":"is snow white","answer":true}\n{"passage":"Grass is green.","question":"is grass green","answer":true}\n' > boolq.jsonl
$ mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf -d . piqa boolq --log-samples s.jsonl
> task            metric                         items  value ± standard error
> piqa            acc                                1    0.0000 ± 0.0000
>                 acc_norm                           1    1.0000 ± 0.0000
>~ boolq           acc                                2    .*
! piqa: 1 items lack what the task needs
$ cut -c1-60 s.jsonl | grep -c skipped; wc -l < s.jsonl
> 1
> 4
$ mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf boolq=boolq.jsonl --num-fewshot 1 --limit 1 --json
>~ \{"boolq":\{"items":1,"skipped":0,"tokens":\d+,.*\}
$ mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf boolq=boolq.jsonl --num-fewshot 2
! 2 examples are wanted, but there are 1
? 2
$ printf '{"question":"1+1?","answer":"#### 2"}\n' > g.jsonl; mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf gsm8k=g.jsonl --num-fewshot 0 --max-tokens 8 --apply-chat-template | wc -l
> 3
$ printf '{"prompt":"Say hi.","instruction_id_list":["punctuation:no_comma","no:such"],"kwargs":[{},{}]}\n' > i.jsonl; mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf ifeval=i.jsonl --max-tokens 4
! none of the 1 items has the fields of task ifeval; the first: unknown instruction 'no:such'
? 1
$ printf '{"prompt":"The capital of France is","reference":"Paris."}\n' > text.jsonl; mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf -d . text --max-tokens 4 | tail -1
>~  +f1 +1 +[0-9].*
$ for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "The river runs through the old town, past the mill and the market, and on to the sea, number $i. It is slow and wide."; done > hay.txt; cat hay.txt hay.txt > hay2.txt; mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf needle=hay2.txt -c 512 --log-samples n.jsonl | tail -1
>~ needle +found +5 .*
$ wc -l < n.jsonl
> 5
# whole texts: the same likelihood however long the windows of what goes in, and llama-perplexity's figures with the divergence from itself
$ mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf documents=hay.txt wikitext=hay.txt --json | python3 -c 'import json,sys; d = json.load(sys.stdin); a, b = d["documents"], d["wikitext"]; print(a["items"], a["bits_per_byte"] == b["bits_per_byte"], 0 < a["bits_per_byte"]["value"] < 2, a["word_perplexity"]["value"] > a["byte_perplexity"]["value"] > 1)'
> 1 True True True
$ printf '{"text":"One two three four five."}\n{"text":""}\n{"text":"Six seven eight nine."}\n' > docs.jsonl; mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf documents=docs.jsonl --json | python3 -c 'import json,sys; d = json.load(sys.stdin)["documents"]; print(d["items"], d["skipped"], d["bits_per_byte"]["stderr"] > 0)'
> 2 1 True
$ for i in 1 2 3 4 5; do cat hay2.txt; done > long.txt; mote perplexity -m $MODELS/smollm2-135m-instruct.q4_1.gguf -f long.txt --chunks 2 --kl-divergence-base base --json > p.json; mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf perplexity=long.txt --limit 2 --kld base --json | python3 -c 'import json,sys; d = json.load(sys.stdin)["perplexity"]; p = json.load(open("p.json")); print(d["ppl"]["value"] == p["ppl"], d["bits_per_byte"]["value"] == p["bits_per_byte"], d["kld"]["value"] < 1e-4, d["same_top"]["value"] > 0.99, d["items"])'
> True True True True 2
$ mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf needle=text.jsonl
! a haystack needs at least 256
? 1
$ mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf documents=hay.txt --kld base
! --kld is for the task perplexity
? 2
$ mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf nosuch=g.jsonl
! there is no task 'nosuch'
? 2
$ mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf piqa
! no file of items
? 2
$ mote eval -m $MODELS/smollm2-135m-instruct.q4_1.gguf --smoke --max-tokens 48 --json
>~ \{"broken":false,"answers":12,.*\}
