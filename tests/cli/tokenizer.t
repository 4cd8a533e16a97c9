# a vocabulary learnt from text, its files, and what is refused
$ for i in $(seq 200); do echo "the old mill by the old stream, number $i"; done > t.txt; mote tokenizer t.txt -V 300 -o v.gguf
>~ v\.gguf: 283 tokens, 24 merges from 8\.[0-9] kB of text \(20 different words\); \d+\.\d\d bytes per token
! no more pairs occur 2 times: 283 tokens instead of 300
$ mote tokenize -m v.gguf 'the old mill'
>~ .*"the"
>~ .*" old"
>~ .*" mill"
$ mote tokenize -m v.gguf --ids --special '<|im_end|>the'
>~ \[2, \d+\]
$ mote tokenizer t.txt -V 300 -o v2.gguf > /dev/null; cmp v.gguf v2.gguf
$ mote tokenizer t.txt -V 300 -o folder > /dev/null; ls folder
> tokenizer.json
> tokenizer_config.json
$ mote tokenizer t.txt -V 2000 -o v.json --special '<end>'
>~ v\.json: \d+ tokens, \d+ merges .*
! no more pairs occur 2 times
$ mote tokenizer t.txt -V 2000 --json -o v.json --min-frequency 100000 | grep -c '"merges": *0'
> 1
$ printf '{"text": "one"}\nbroken\n' > bad.jsonl; mote tokenizer bad.jsonl -V 300 -o v.gguf
>~ .*
! 1 lines or parts could not be read
! no more pairs
$ mote tokenizer bad.jsonl -V 300 -o v.gguf --strict
! bad.jsonl:2: 
? 1
$ mote tokenizer
! from which texts
? 2
$ mote tokenizer none.txt -V 300 -o v.gguf
! none.txt
? 4
$ : > empty.txt; mote tokenizer empty.txt -V 300 -o never.gguf; ls never.gguf 2>&1 | grep -c 'No such'
> 1
! nothing to learn from
