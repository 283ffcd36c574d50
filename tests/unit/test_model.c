// SPDX-License-Identifier: Apache-2.0
/* Bytes per token decide every number of a run: each shipped model is compared with its published
 * shape. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/attr.h"
#include "model/model.h"

static void test_golden_bytes_per_token(void **state)
{
	static const struct {
		const char *key;
		uint64_t bytes;
		uint32_t head_dim;
	} golden[] = {
		{"tiny-1b", 24576, 128},
		{"mistral-7b", 131072, 128},
		{"llama2-7b", 524288, 128},
		{"llama3.1-8b", 131072, 128},
		{"llama3.1-70b-instruct", 327680, 128},
		{"deepseek-v3", 70272, 56},
		{"qwen3-32b", 262144, 128},
		{"gpt-oss-120b", 73728, 64},
		{"gpt-oss-20b", 49152, 64},
	};
	size_t count;
	model_builtin(&count);
	assert_int_equal(count, ARRAY_LEN(golden));
	for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
		const struct model *m = model_find(golden[i].key);
		const char *field;
		assert_non_null(m);
		assert_int_equal(model_check(m, &field), 0);
		assert_int_equal(model_bytes_per_token(m), golden[i].bytes);
		assert_int_equal(model_head_dim(m), golden[i].head_dim);
	}
	assert_null(model_find("gpt-5"));
	(void)state;
}

static void test_fallback(void **state)
{
	struct model m = model_fallback("mine");
	assert_string_equal(m.key, "mine");
	assert_int_equal(m.attention, MODEL_MHA);
	assert_int_equal(model_bytes_per_token(&m), 32 * 8 * 128 * 2 * 2);
	(void)state;
}

static void test_dtypes(void **state)
{
	static const struct {
		const char *name;
		uint32_t bytes;
		const char *descr;
		int known;
	} cases[] = {
		{"float32", 4, "<f4", 1},  {"float16", 2, "<f2", 1}, {"bfloat16", 2, "<f2", 1},
		{"int8", 1, "|i1", 1},     {"fp8", 1, "|i1", 1},     {"fp8_e4m3", 1, "|i1", 1},
		{"fp8_e5m2", 1, "|i1", 1}, {"posit16", 2, "<f2", 0},
	};
	struct model m = *model_find("llama3.1-8b");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint32_t bytes = 99;
		strcpy(m.dtype, cases[i].name);
		assert_int_equal(model_element_bytes(cases[i].name, &bytes), 0);
		assert_int_equal(bytes, cases[i].bytes);
		assert_int_equal(model_dtype_known(cases[i].name), cases[i].known);
		/* The file must hold what the formula counts, whatever the element type. */
		assert_string_equal(model_numpy_descr(&m), cases[i].descr);
		assert_int_equal(model_bytes_per_token(&m), 65536 * cases[i].bytes);
	}
	uint32_t bytes = 99;
	assert_int_equal(model_element_bytes("int4", &bytes), -EINVAL);
	assert_int_equal(bytes, 99);
	(void)state;
}

static void test_shapes(void **state)
{
	uint64_t d[MODEL_SHAPE_DIMS_MAX];
	const struct model *gqa = model_find("llama3.1-8b");
	assert_int_equal(model_shape(gqa, 1000, 1, d), 5);
	const uint64_t want[] = {32, 2, 1000, 8, 128};
	assert_memory_equal(d, want, sizeof(want));

	const struct model *mla = model_find("deepseek-v3");
	assert_int_equal(model_shape(mla, 7, 1, d), 3);
	assert_int_equal(d[0], 61);
	assert_int_equal(d[1], 7);
	assert_int_equal(d[2], 576);

	assert_int_equal(model_shape(gqa, 1000, 8, d), 1);
	assert_int_equal(d[0], 65536000 / 8);
	assert_int_equal(model_shape(mla, 1, 5, d), 1);
	assert_int_equal(d[0], 61 * 576 / 5);
	(void)state;
}

static void check_fault(struct model m, const char *want)
{
	const char *field = NULL;
	assert_int_equal(model_check(&m, &field), -EINVAL);
	assert_string_equal(field, want);
}

static void test_check(void **state)
{
	const struct model ok = *model_find("llama3.1-8b");
	struct model m = ok;
	m.layers = 0;
	check_fault(m, "num_layers");
	m = ok;
	m.heads = 0;
	check_fault(m, "num_heads");
	m = ok;
	m.kv_heads = 0;
	check_fault(m, "kv_heads");
	m.kv_heads = 33;
	check_fault(m, "kv_heads");
	m = ok;
	m.hidden_dim = 31; /* less than one per head */
	check_fault(m, "kv_dim_per_head");
	m = ok;
	strcpy(m.dtype, "int4");
	check_fault(m, "dtype");
	m = ok;
	m.layers = m.kv_heads = m.heads = m.head_dim_override = UINT32_MAX;
	check_fault(m, "num_layers");

	m = *model_find("deepseek-v3");
	m.kv_lora_rank = 0;
	check_fault(m, "kv_lora_rank");
	m.kv_lora_rank = m.qk_rope_head_dim = m.layers = UINT32_MAX;
	check_fault(m, "num_layers");
	m = *model_find("deepseek-v3");
	m.kv_heads = 0; /* not used by MLA */
	const char *field;
	assert_int_equal(model_check(&m, &field), 0);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden_bytes_per_token),
		cmocka_unit_test(test_fallback),
		cmocka_unit_test(test_dtypes),
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_check),
	};
	return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
