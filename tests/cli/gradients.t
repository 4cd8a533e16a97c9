# the gradients of one pass
needs shared
$ mote gradients -m $SHARED/oracle/train/llama --batch $SHARED/oracle/train/llama/forward.safetensors -o g.safetensors --logits l.safetensors
>~ loss 6\.039\d+ over 80 tokens in 2 sequences; 21 gradients in g\.safetensors
>~ .* tokens/s, .* of memory beside weights and gradients
$ head -c 400 g.safetensors | grep -c 'model.embed_tokens.weight'
> 1
$ mote gradients -m $SHARED/oracle/train/lfm2 -b $SHARED/oracle/train/lfm2/forward.safetensors -o g2.safetensors --json --checkpoint --bf16 -t 1
>~ \{"loss":5\.7\d+,.*\}
$ mote gradients -m $SHARED/oracle/arch/mamba-dense.gguf --batch $SHARED/oracle/train/llama/forward.safetensors -o no.safetensors
! layer 0: the block 'mamba' can be run but not trained
? 1
$ mote gradients -m $SHARED/oracle/train/llama --batch $SHARED/oracle/train/llama/model.safetensors -o no.safetensors
! has no tensor 'input_ids'
? 1
$ mote gradients -m $SHARED/oracle/train/llama -o no.safetensors
! a batch
? 2
