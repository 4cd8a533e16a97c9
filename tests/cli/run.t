# answers once, in each way a prompt may come
needs model smollm2-135m-instruct.q4_1.gguf
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf -p 'The capital of France is' -n 6 --temp 0 --raw > one; cat one
>~ .*Paris.*
>...
$ printf 'The capital of France is' | mote run $MODELS/smollm2-135m-instruct.q4_1.gguf -n 6 --temp 0 --raw > two; cmp one two
$ printf 'of France is' > end.txt; mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf -p 'The capital of France is' -n 6 --temp 0 --raw -t 1 -ub 1 > three; cmp one three
# the same seed draws the same tokens
$ for i in 1 2; do mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf --temp 1 --seed 7 -n 8 'Say something.' > s$i </dev/null; done; cmp s1 s2
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf 'Hi' -n 3 --temp 0 --json | python3 -c 'import json,sys; d = json.load(sys.stdin); print(sorted(d), d["answer_tokens"], d["finish"])'
> ['accepted_tokens', 'answer_ms', 'answer_tokens', 'cached_tokens', 'drafted_tokens', 'finish', 'prompt_ms', 'prompt_tokens', 'text'] 3 length
# guessing changes nothing but the time
$ for s in off auto ngram; do mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf --spec $s --temp 0.7 --seed 3 -n 40 --raw -p 'one two three four one two three four one two' > g$s; done; cmp goff gauto && cmp goff gngram
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf --spec draft -md $MODELS/smollm2-135m-instruct.q4_1.gguf --draft-max 4 --temp 0.7 --seed 3 -n 40 --raw --stats -p 'one two three four one two three four one two' > gdraft; cmp goff gdraft
! speculation: [0-9]+ guesses, [0-9]+ came true
# state that was saved is used
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf --prompt-cache st -p 'The capital of France is' -n 2 --temp 0 --raw > /dev/null; mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf --prompt-cache st -p 'The capital of France is' -n 6 --temp 0 --raw --json | python3 -c 'import json,sys; d = json.load(sys.stdin); print(d["cached_tokens"] > 3, d["text"] == open("one").read())'
> True True
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf -r ris -p 'The capital of France is' -n 6 --temp 0 --raw
>  Pa
# mistakes
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf --spec draft hello
! needs a draft model: -md
? 2
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf -md $MODELS/qwen2.5-coder-0.5b-instruct.q4_k_m.gguf hello
! a draft model must have the model's tokenizer
? 1
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf --spec ngrams hello
! auto.off.ngram.draft
? 2
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf '' </dev/null
! the prompt is empty
? 2
$ mote run --temp 1000 hello
! --temp takes a number from 0 to 100
? 2
$ mote run --prefix a --raw b
! --prefix and --suffix are the prompt
? 2
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf --prefix a --suffix b
! .
? 1
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf --logit-bias abc hello
! --logit-bias takes ID.X
? 2
$ mote run -m $MODELS/smollm2-135m-instruct.q4_1.gguf --cpu-mask pentium hello
! pentium
? 2
$ mote run no-such-model.gguf hello
! there is no such file
? 4
