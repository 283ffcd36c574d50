// SPDX-License-Identifier: Apache-2.0
/* Fuzz entry: any text as a workload file. Nothing may crash, leak or run away; a refusal must
 * carry a message. */
#include <stdint.h>
#include <stdlib.h>

#include "base/str.h"
#include "config/config.h"
#include "config/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libfyaml 0.7 loses 4 KiB when it refuses a quoted text with many escapes; our own leaks still show. */
const char *__lsan_default_suppressions(void)
{
	return "leak:libfyaml.so\n";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_STR struct str text = {0};
	struct config_workload workload = {0};
	struct model model = {0};
	bool known = false;
	struct strlist keys = {0}, notices = {0};
	struct problems problems = {0};
	struct error err = {0};
	struct yaml *y = NULL;

	str_add_mem(&text, (const char *)data, size);
	int rc = yaml_parse(str_text(&text), "fuzz", &y, &err);
	if (rc && !err.message[0])
		abort();
	if (!rc) {
		const struct workload_target target = {.workload = &workload,
						       .model_key = "m",
						       .model = &model,
						       .model_known = &known,
						       .model_keys = &keys,
						       .notices = &notices,
						       .problems = &problems};
		if (config_workload_read(y, &target))
			abort();
		/* What passed its checks can be computed with. */
		if (known && !problems.count && !model_bytes_per_token(&model))
			abort();
	}
	yaml_free(y);
	strlist_release(&keys);
	strlist_release(&notices);
	problems_release(&problems);
	return 0;
}
