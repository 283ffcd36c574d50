/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model/model.h - from the shape of a language model to the bytes of its KV cache.
 *
 * Receives: layer counts, head counts, element type.  Gives: exact bytes per token, array shapes.
 * Must not know: users, tiers, files.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum model_attention {
	MODEL_MHA, /* every head has its own K and V */
	MODEL_GQA, /* groups of heads share K and V */
	MODEL_MLA, /* one joint latent per token and layer (DeepSeek) */
};

enum { MODEL_KEY_MAX = 64, MODEL_NAME_MAX = 96, MODEL_DTYPE_MAX = 16, MODEL_SHAPE_DIMS_MAX = 5 };

/** One model. Plain data, copied freely. */
struct model {
	char key[MODEL_KEY_MAX];   /* what --model takes */
	char name[MODEL_NAME_MAX]; /* for people */
	char dtype[MODEL_DTYPE_MAX];
	enum model_attention attention;
	uint32_t layers;
	uint32_t hidden_dim;
	uint32_t heads;
	uint32_t kv_heads;
	uint32_t head_dim_override; /* 0: hidden_dim / heads */
	uint32_t kv_lora_rank;	    /* MLA only */
	uint32_t qk_rope_head_dim;  /* MLA only */
};

/** model_builtin() - the shipped table. @ret_count: entries. Returned memory is static. */
const struct model *model_builtin(size_t *ret_count);
/** model_find() - shipped model by key, NULL when unknown. */
const struct model *model_find(const char *key);
/** model_fallback() - the values a model takes that only a YAML file knows (32 layers, 4096, 32, 8, float16, MHA). */
struct model model_fallback(const char *key);

/** model_element_bytes() - float32 4, float16 and bfloat16 2, int8 and fp8 1, 4-bit types -EINVAL; any other name 2. */
int model_element_bytes(const char *dtype, uint32_t *ret);
/** model_dtype_known() - false for a name whose size model_element_bytes() only assumes. */
bool model_dtype_known(const char *dtype);
uint32_t model_head_dim(const struct model *m);

/**
 * model_bytes_per_token() - KV bytes one token occupies, all layers
 * MHA/GQA: layers x kv_heads x head_dim x 2 x element; MLA: layers x (rank + rope) x element (no factor 2:
 * K and V share the latent).
 * @m: a checked model   Return: bytes, >= 1.
 */
uint64_t model_bytes_per_token(const struct model *m);

/**
 * model_check() - can this model be computed with?
 * @ret_field: [out] name of the field at fault
 * Return: 0; -EINVAL a zero where none may be, kv_heads > heads for GQA, or a product beyond 2^32 bytes per token.
 */
int model_check(const struct model *m, const char **ret_field);

/**
 * model_shape() - dimensions of the stored array for @tokens tokens
 * MHA/GQA: (layers, 2, tokens, kv_heads, head_dim); MLA: (layers, tokens, rank + rope). C order. With
 * tensor_parallel > 1 one rank's shard is stored flat: (elements / tensor_parallel).
 * @dims: [out] up to MODEL_SHAPE_DIMS_MAX
 * Return: number of dimensions.
 */
unsigned model_shape(const struct model *m, uint64_t tokens, uint32_t tensor_parallel,
		     uint64_t dims[MODEL_SHAPE_DIMS_MAX]);

/** model_numpy_descr() - "<f2", "<f4" or "|i1": the NumPy type whose size is the model's element size. */
const char *model_numpy_descr(const struct model *m);
const char *model_attention_name(enum model_attention a);
