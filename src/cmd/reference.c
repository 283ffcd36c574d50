// SPDX-License-Identifier: Apache-2.0
/*
 * Runs when the project is built: prints what follows from the tables of options and commands.
 *
 *      reference man TEMPLATE          the template with its lines  .\" @options PROGRAM  replaced
 *      reference completion PROGRAM    a script for bash
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cmd/cmd.h"

enum { TEMPLATE_MAX = 1 << 20 };

/* kv-cache's own options, with nothing filled. */
struct engine_options {
	struct config_options target;
	struct opt_group group;
	struct opt_set set;
};

static void engine_options_init(struct engine_options *e)
{
	*e = (struct engine_options){.group.title = "Options"};
	e->group.opts = config_option_table(&e->group.count);
	e->group.target = &e->target;
	e->group.source = calloc(e->group.count, 1);
	e->set = (struct opt_set){.groups = &e->group, .count = 1};
}

static struct cmd_invocation *invocation_new(const struct cmd_command *command)
{
	struct cmd_invocation *inv = calloc(1, sizeof(*inv));
	if (!inv)
		return NULL;
	inv->command = command;
	if (!cmd_options_init(inv))
		return inv;
	cmd_options_release(inv);
	free(inv);
	return NULL;
}

static void invocation_free(struct cmd_invocation *inv)
{
	cmd_options_release(inv);
	free(inv);
}

/* ---- manual pages ---- */

/* One section a command. What the first one has is only named by the others. */
static int man_commands(void)
{
	struct cmd_invocation *first = invocation_new(cmd_commands);
	for (const struct cmd_command *c = cmd_commands; first && c->name; c++) {
		struct cmd_invocation *inv = invocation_new(c);
		if (!inv)
			break;
		printf(".SH \"mlpstorage %s %s%s%s\"\n%c%s.\n", c->program, c->name, c->word ? " " : "",
		       c->word ? c->word : "", toupper((unsigned char)c->help[0]), c->help + 1);
		opt_man(&inv->set, c == cmd_commands ? NULL : &first->set, stdout);
		invocation_free(inv);
	}
	if (!first)
		return -ENOMEM;
	invocation_free(first);
	return 0;
}

static int man_options(const char *program)
{
	if (!strcmp(program, "mlpstorage"))
		return man_commands();
	struct engine_options e;
	engine_options_init(&e);
	opt_man(&e.set, NULL, stdout);
	free(e.group.source);
	return 0;
}

static int print_man(const char *path)
{
	static const char directive[] = ".\\\" @options ";
	CLEANUP_STR struct str text = {0};
	char *save = NULL;
	int rc = file_read(path, TEMPLATE_MAX, &text);
	for (char *line = rc ? NULL : strtok_r(text.s, "\n", &save); line && !rc; line = strtok_r(NULL, "\n", &save)) {
		char *version = strstr(line, "@VERSION@");
		if (!strncmp(line, directive, strlen(directive)))
			rc = man_options(line + strlen(directive));
		else if (version)
			printf("%.*s%s%s\n", (int)(version - line), line, MLPSTORAGE_VERSION,
			       version + strlen("@VERSION@"));
		else
			puts(line);
	}
	return rc;
}

/* ---- completion ---- */

static void print_names(const struct opt_set *set)
{
	for (size_t g = 0; g < set->count; g++)
		for (size_t i = 0; i < set->groups[g].count; i++)
			if (!(set->groups[g].opts[i].flags & OPT_F_HIDDEN))
				printf("%s ", set->groups[g].opts[i].name);
	fputs("--help", stdout);
}

static void print_model_names(void)
{
	size_t count;
	const struct model *m = model_builtin(&count);
	for (size_t i = 0; i < count; i++)
		printf("%s%s", i ? " " : "", m[i].key);
}

/* What may stand behind one option, as a branch of a case. */
static void print_value(const struct opt *opt)
{
	printf("\t%s%s%s) ", opt->short_name ? opt->short_name : "", opt->short_name ? "|" : "", opt->name);
	if (opt->type == OPT_CHOICE) {
		fputs("words='", stdout);
		for (size_t i = 0; opt->choices[i]; i++)
			printf("%s%s", i ? " " : "", opt->choices[i]);
		fputs("' ;;\n", stdout);
	} else if (!strcmp(opt->name, "--model")) {
		fputs("words='", stdout);
		print_model_names();
		fputs("' ;;\n", stdout);
	} else if (opt->flags & OPT_F_DIR) {
		fputs("kind=-d ;;\n", stdout);
	} else if (opt->flags & OPT_F_FILE) {
		fputs("kind=-f ;;\n", stdout);
	} else {
		fputs("return ;;\n", stdout); /* nothing to offer */
	}
}

static void print_values(const struct opt_set *set, const struct opt_set *before)
{
	const struct opt_group *group;
	size_t index;
	for (size_t g = 0; g < set->count; g++) {
		for (size_t i = 0; i < set->groups[g].count; i++) {
			const struct opt *opt = &set->groups[g].opts[i];
			if (opt->type != OPT_FLAG && !(opt->flags & OPT_F_HIDDEN) &&
			    !(before && opt_find(before, opt->name, &group, &index)))
				print_value(opt);
		}
	}
}

static void print_head(const char *function)
{
	printf("# bash completion, made from the tables of options.\n\n%s()\n{\n"
	       "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= kind=-W\n"
	       "\tCOMPREPLY=()\n"
	       "\t# bash takes --name=value for three words\n"
	       "\tif [[ $cur == '=' ]]; then cur=\n"
	       "\telif [[ $prev == '=' ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n",
	       function);
}

static void print_tail(const char *function, const char *program)
{
	printf("\tif [[ $kind == -W ]]; then\n"
	       "\t\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
	       "\telse\n"
	       "\t\tcompopt -o filenames 2>/dev/null\n"
	       "\t\tmapfile -t COMPREPLY < <(compgen \"$kind\" -- \"$cur\")\n"
	       "\tfi\n"
	       "}\n\ncomplete -F %s %s\n",
	       function, program);
}

static int complete_mlpstorage(void)
{
	struct cmd_invocation *first = NULL;
	print_head("_mlpstorage");
	fputs("\tcase $COMP_CWORD:${COMP_WORDS[1]} in\n", stdout);
	fputs("\t1:*) words='", stdout);
	for (const struct cmd_program *p = cmd_programs; p->name; p++)
		printf("%s ", p->name);
	fputs("--help --version' ;;\n", stdout);
	for (const struct cmd_program *p = cmd_programs; p->name; p++) {
		printf("\t2:%s) words='", p->name);
		for (const struct cmd_command *c = cmd_commands; c->name; c++)
			if (!strcmp(c->program, p->name))
				printf("%s ", c->name);
		fputs("--help' ;;\n", stdout);
	}
	fputs("\t*) case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n", stdout);
	for (const struct cmd_command *c = cmd_commands; c->name; c++) {
		struct cmd_invocation *inv = invocation_new(c);
		if (!inv)
			return -ENOMEM;
		printf("\t\t'%s %s') words='", c->program, c->name);
		print_names(&inv->set);
		fputs("' ;;\n", stdout);
		invocation_free(inv);
	}
	fputs("\t\tesac ;;\n\tesac\n\tcase $prev in\n", stdout);
	for (const struct cmd_command *c = cmd_commands; c->name; c++) {
		struct cmd_invocation *inv = invocation_new(c);
		if (!inv)
			return -ENOMEM;
		print_values(&inv->set, first ? &first->set : NULL);
		if (first)
			invocation_free(inv);
		else
			first = inv;
	}
	invocation_free(first);
	fputs("\tesac\n", stdout);
	print_tail("_mlpstorage", "mlpstorage");
	return 0;
}

static int complete_engine(void)
{
	struct engine_options e;
	engine_options_init(&e);
	print_head("_kv_cache");
	fputs("\tcase $COMP_CWORD:${COMP_WORDS[1]} in\n", stdout);
	fputs("\t1:*) words='trace-info --version ", stdout);
	print_names(&e.set);
	fputs("' ;;\n\t*:trace-info) kind=-f\n\t\t[[ $cur != -* ]] || { kind=-W words='--model --help'; } ;;\n\t*) words='", stdout);
	print_names(&e.set);
	fputs("' ;;\n\tesac\n\tcase $prev in\n", stdout);
	print_values(&e.set, NULL);
	fputs("\tesac\n", stdout);
	print_tail("_kv_cache", "kv-cache");
	free(e.group.source);
	return 0;
}

int main(int argc, char **argv)
{
	int rc = -EINVAL;
	if (argc == 3 && !strcmp(argv[1], "man"))
		rc = print_man(argv[2]);
	else if (argc == 3 && !strcmp(argv[1], "completion"))
		rc = strcmp(argv[2], "kv-cache") ? complete_mlpstorage() : complete_engine();
	if (!rc)
		rc = file_flush_stdout();
	if (rc)
		fprintf(stderr, "reference: %s\n", strerror(-rc));
	return rc ? EXIT_NOT_VALID : EXIT_OK;
}
