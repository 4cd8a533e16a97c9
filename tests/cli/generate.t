# many prompts at once: the same answers for any number of sequences, in the prompts' order, and after a run was broken off
needs model smollm2-135m-instruct.q4_1.gguf
$ printf 'Name three colours.\n\n{"prompt":"Say hi.","id":7}\n{"text":"The capital of France is"}\n{"messages":[{"role":"system","content":"Be short."},{"role":"user","content":"Why?"}]}\n' > q.jsonl
$ mote generate q.jsonl -m $MODELS/smollm2-135m-instruct.q4_1.gguf -n 12 --temp 0 -o four.jsonl
! 4 answers, [0-9]+ tokens
$ python3 -c 'import json; d = [json.loads(l) for l in open("four.jsonl")]; print([m["role"] for m in d[0]["messages"]], d[1]["id"], d[1]["messages"][0], "Paris" in d[2]["text"], d[2]["text"][:12], len(d[3]["messages"]), [x["finish"] for x in d if x["tokens"] == 12 or x["finish"] == "stop"])'
>~ \['user', 'assistant'\] 7 {'role': 'user', 'content': 'Say hi.'} True The capital  3 \['(length|stop)', '(length|stop)', '(length|stop)', '(length|stop)'\]
$ for n in 1 3; do mote generate q.jsonl -m $MODELS/smollm2-135m-instruct.q4_1.gguf -n 12 --temp 0.9 --seed 5 -np $n > np$n 2> said; done; cmp np1 np3
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf -p 'The capital of France is' --raw -n 12 --temp 0 > one; python3 -c 'import json; print(json.loads(open("four.jsonl").readlines()[2])["text"] == "The capital of France is" + open("one").read())'
> True
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf -p 'Name three colours.' -n 12 --temp 0 --json > one; python3 -c 'import json; print(json.loads(open("four.jsonl").readline())["messages"][1]["content"] == json.load(open("one"))["text"])'
> True
# the last line is broken: it is made again, and nothing else
$ head -c 600 np3 > part.jsonl; mote generate q.jsonl -m $MODELS/smollm2-135m-instruct.q4_1.gguf -n 12 --temp 0.9 --seed 5 -o part.jsonl; cmp part.jsonl np3
! going on after [1-3] answers
$ mote generate q.jsonl -m $MODELS/smollm2-135m-instruct.q4_1.gguf -n 12 -o part.jsonl
! 0 answers
# the model makes up the questions
$ mote generate --ask 3 -m $MODELS/smollm2-135m-instruct.q4_1.gguf -n 6 --seed 2 --temp 1 -o asked.jsonl 2> said; mote generate --ask 3 -np 1 -m $MODELS/smollm2-135m-instruct.q4_1.gguf -n 6 --seed 2 --temp 1 2> said | cmp - asked.jsonl; python3 -c 'import json; print([len(json.loads(l)["messages"]) for l in open("asked.jsonl")])'
> [2, 2, 2]
# mistakes
$ printf 'Hi\nAnother\n' > other.txt; mote generate other.txt -m $MODELS/smollm2-135m-instruct.q4_1.gguf -o part.jsonl
! part.jsonl, line 1: no answer to prompt 1 of this run
? 1
$ mote generate
! prompts from files, or --ask N
? 2
$ printf '{"prompt":\n' > bad.jsonl; mote generate bad.jsonl -m $MODELS/smollm2-135m-instruct.q4_1.gguf
! bad.jsonl, line 1: 
? 1
$ printf '{"messages":[{"role":"user"}]}\n' > bad.jsonl; mote generate bad.jsonl -m $MODELS/smollm2-135m-instruct.q4_1.gguf
! bad.jsonl, line 1: expected an object with
? 1
$ : > empty.txt; mote generate empty.txt -m $MODELS/smollm2-135m-instruct.q4_1.gguf
! there are no prompts in it
? 1
$ mote generate none.txt
! none.txt: No such file
? 4
$ python3 -c 'print("word " * 400)' > long.txt; printf 'Hi\n' >> long.txt; mote generate long.txt -m $MODELS/smollm2-135m-instruct.q4_1.gguf -c 128 -n 4 > out
! 1 of them failed
? 1
$ python3 -c 'import json; d = [json.loads(l) for l in open("out")]; print(d[0]["finish"], "tokens" in d[0]["error"], d[1]["messages"][1]["role"])'
> error True assistant
