// SPDX-License-Identifier: Apache-2.0
/* The shipped language models and the arithmetic from their shape to bytes; everything else asks
 * here. */
#include "model/model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"

/* A token beyond this is a typing error, and an entry of 2^24 tokens still fits 64 bits. */
#define BYTES_PER_TOKEN_MAX (UINT64_C(1) << 32)

/* clang-format off */
static const struct model builtin[] = {
	/* key, name, dtype, attention, layers, hidden, heads, kv_heads, head_dim, rank, rope */
	{"tiny-1b", "Tiny 1B", "float16", MODEL_GQA, 12, 1024, 8, 4, 0, 0, 0},
	{"mistral-7b", "Mistral 7B", "float16", MODEL_GQA, 32, 4096, 32, 8, 0, 0, 0},
	{"llama2-7b", "Llama 2 7B", "float16", MODEL_MHA, 32, 4096, 32, 32, 0, 0, 0},
	{"llama3.1-8b", "Llama 3.1 8B", "float16", MODEL_GQA, 32, 4096, 32, 8, 0, 0, 0},
	{"llama3.1-70b-instruct", "Llama 3.1 70B Instruct", "float16", MODEL_GQA, 80, 8192, 64, 8, 0, 0, 0},
	{"deepseek-v3", "DeepSeek V3", "float16", MODEL_MLA, 61, 7168, 128, 128, 0, 512, 64},
	{"qwen3-32b", "Qwen3 32B", "float16", MODEL_GQA, 64, 5120, 64, 8, 128, 0, 0},
	{"gpt-oss-120b", "GPT OSS 120B (MoE)", "float16", MODEL_GQA, 36, 2880, 64, 8, 64, 0, 0},
	{"gpt-oss-20b", "GPT OSS 20B (MoE)", "float16", MODEL_GQA, 24, 2880, 64, 8, 64, 0, 0},
};

/* 0 bytes: half a byte per element, which this arithmetic cannot hold. */
static const struct {
	const char *name;
	uint32_t bytes;
} dtypes[] = {
	{"float32", 4}, {"fp32", 4},
	{"float16", 2}, {"fp16", 2}, {"bfloat16", 2}, {"bf16", 2},
	{"int8", 1}, {"uint8", 1},
	{"fp8", 1}, {"fp8_e4m3", 1}, {"fp8_e5m2", 1},
	{"float8_e4m3", 1}, {"float8_e4m3fn", 1}, {"float8_e5m2", 1},
	{"int4", 0}, {"uint4", 0}, {"fp4", 0}, {"nf4", 0}, {"mxfp4", 0},
};
/* clang-format on */

const struct model *model_builtin(size_t *ret_count)
{
	*ret_count = ARRAY_LEN(builtin);
	return builtin;
}

const struct model *model_find(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(builtin); i++)
		if (!strcmp(builtin[i].key, key))
			return &builtin[i];
	return NULL;
}

struct model model_fallback(const char *key)
{
	struct model m = {
		.dtype = "float16",
		.attention = MODEL_MHA,
		.layers = 32,
		.hidden_dim = 4096,
		.heads = 32,
		.kv_heads = 8,
	};
	snprintf(m.key, sizeof(m.key), "%s", key);
	snprintf(m.name, sizeof(m.name), "%s", key);
	return m;
}

static bool dtype_find(const char *dtype, uint32_t *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(dtypes); i++) {
		if (!strcmp(dtypes[i].name, dtype)) {
			*ret = dtypes[i].bytes;
			return true;
		}
	}
	return false;
}

bool model_dtype_known(const char *dtype)
{
	uint32_t bytes;
	return dtype_find(dtype, &bytes);
}

int model_element_bytes(const char *dtype, uint32_t *ret)
{
	uint32_t bytes = 2;
	if (dtype_find(dtype, &bytes) && !bytes)
		return -EINVAL;
	*ret = bytes;
	return 0;
}

static uint32_t element_bytes(const struct model *m)
{
	uint32_t bytes = 2;
	(void)model_element_bytes(m->dtype, &bytes); /* a checked model has a usable type */
	return bytes;
}

uint32_t model_head_dim(const struct model *m)
{
	if (m->head_dim_override)
		return m->head_dim_override;
	return m->heads ? m->hidden_dim / m->heads : 0;
}

/* False when the product exceeds 64 bits. */
static bool elements_per_token(const struct model *m, uint64_t *ret)
{
	if (m->attention == MODEL_MLA) {
		*ret = (uint64_t)m->layers * ((uint64_t)m->kv_lora_rank + m->qk_rope_head_dim);
		return *ret / (m->layers ? m->layers : 1) < UINT64_C(1) << 33;
	}
	uint64_t heads = (uint64_t)m->layers * m->kv_heads;
	uint64_t both = 2 * (uint64_t)model_head_dim(m);
	return !__builtin_mul_overflow(heads, both, ret);
}

uint64_t model_bytes_per_token(const struct model *m)
{
	uint64_t elements = 0;
	(void)elements_per_token(m, &elements); /* a checked model does not overflow */
	return elements * element_bytes(m);
}

static const char *zero_field(const struct model *m)
{
	if (!m->layers)
		return "num_layers";
	if (m->attention == MODEL_MLA)
		return m->kv_lora_rank ? NULL : "kv_lora_rank";
	if (!m->heads)
		return "num_heads";
	if (!m->kv_heads)
		return "kv_heads";
	if (!m->hidden_dim)
		return "hidden_dim";
	return model_head_dim(m) ? NULL : "kv_dim_per_head";
}

int model_check(const struct model *m, const char **ret_field)
{
	const char *field = zero_field(m);
	uint32_t bytes = 0;
	uint64_t elements = 0;
	if (!field && model_element_bytes(m->dtype, &bytes))
		field = "dtype";
	if (!field && m->attention == MODEL_GQA && m->kv_heads > m->heads)
		field = "kv_heads";
	if (!field && (!elements_per_token(m, &elements) || elements > BYTES_PER_TOKEN_MAX / bytes))
		field = "num_layers";
	if (!field)
		return 0;
	*ret_field = field;
	return -EINVAL;
}

unsigned model_shape(const struct model *m, uint64_t tokens, uint32_t tensor_parallel,
		     uint64_t dims[MODEL_SHAPE_DIMS_MAX])
{
	if (tensor_parallel > 1) {
		uint64_t elements = 0;
		(void)elements_per_token(m, &elements);
		dims[0] = elements * tokens / tensor_parallel;
		return 1;
	}
	if (m->attention == MODEL_MLA) {
		dims[0] = m->layers;
		dims[1] = tokens;
		dims[2] = (uint64_t)m->kv_lora_rank + m->qk_rope_head_dim;
		return 3;
	}
	dims[0] = m->layers;
	dims[1] = 2;
	dims[2] = tokens;
	dims[3] = m->kv_heads;
	dims[4] = model_head_dim(m);
	return 5;
}

const char *model_numpy_descr(const struct model *m)
{
	/* NumPy has neither bfloat16 nor fp8: a type of the same size stands in. */
	switch (element_bytes(m)) {
	case 4:
		return "<f4";
	case 2:
		return "<f2";
	default:
		return "|i1";
	}
}

const char *model_attention_name(enum model_attention a)
{
	static const char *const names[] = {
		[MODEL_MHA] = "mha", [MODEL_GQA] = "gqa", [MODEL_MLA] = "mla"};
	return names[a];
}
