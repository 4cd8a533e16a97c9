# texts made fit for training: what goes, why, and what is refused
$ P='It was late in the evening when they came to the river, and the ferry had gone'; printf '{"text": "%s", "licence": "CC0-1.0"}\n{"text": "%s"}\n{"text": "short"}\nbroken\n' "$P" "$P" > in.jsonl; mote data in.jsonl -o out.jsonl
> # out.jsonl
> 
> | | documents | text |
> |---|---:|---:|
>~ \| read \| 4 \| .* \|
>~ \| broken line, or not UTF-8 \| -1 \| .* \|
>~ \| too short \| -1 \| .* \|
>~ \| duplicate \| -1 \| .* \|
>~ \| \*\*written\*\* \| \*\*1\*\* \| .* \|
> 
>~ 17 words; SHA-256 [0-9a-f]{64}
> 
>~ The first broken line: in\.jsonl:4: .*
> 
> | licence | documents | text |
> |---|---:|---:|
>~ \| CC0-1.0 \| 1 \| .* \|
$ cat out.jsonl
> {"text":"It was late in the evening when they came to the river, and the ferry had gone","licence":"CC0-1.0"}
$ echo 'they came to the river, and the ferry had gone' > eval.txt; mote data in.jsonl -o never.jsonl -e eval.txt
! none of 4 documents passes
? 1
$ ls never.jsonl 2>&1 | grep -c 'No such'
> 1
$ mote data in.jsonl -o out.jsonl --strict
! in.jsonl:4:
? 1
$ mote data in.jsonl -o out.jsonl --keep-duplicates --near 1 --json --rejected no.jsonl --report r.md | grep -c '"documents_out":2'
> 1
$ head -1 r.md; grep -c reason no.jsonl
> # out.jsonl
> 1
$ mote data in.jsonl
! which texts
? 2
$ mote data in.jsonl -o x.jsonl --order loss
! the loss needs a model
? 2
$ mote data in.jsonl -o x.jsonl --language tlh
! unknown language
? 2
