/* hf_bpe_tab.h: what Hugging Face's BpeTrainer (tokenizers 0.23) makes of tok_train_test.c's sample: tokens 257 and up. */
static const char *const hf_tokens[] = {
    "th", " th", "gh", "ou", "ough", " d", "  ", "ought", "fo", " thought", "he", "og", " fo", " dog",
    "The", "it", "rough", " it", " fox", "ar", "er", "in", "ll", "re", "ull", "\012  ", " a", " b", " o",
    " w", " the", " through", " dull",
};
