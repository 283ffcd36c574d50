// SPDX-License-Identifier: Apache-2.0
/*
 * Where an option's value comes from when it is not typed. From strong to weak:
 *
 *      typed
 *      --config-file          any option of the command
 *      MLPSTORAGE_<OPTION>    any option of the command
 *      config.yaml of the person who runs this: only options that say where it is run (OPT_F_SITE), so
 *                             that nobody's home directory decides what is measured
 *      default
 *
 * The order in which layers are read does not matter: opt_set_text() knows which source is stronger.
 */
#include <ctype.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "config/yaml.h"

#define ENV_PREFIX "MLPSTORAGE_"

/* Keys that other benchmarks and versions keep in the same places. They are nothing to us. */
static const char *const foreign_keys[] = {"--systemname", "--data-dir", "--checkpoint-folder",
					   "--dlio-bin-path"};

static bool is_foreign(const char *name)
{
	return str_is_among(name, foreign_keys, ARRAY_LEN(foreign_keys));
}

/* Name of the option that a key or a variable means: "num_users" and "NUM_USERS" are "--num-users". */
static void key_to_name(const char *key, size_t len, struct str *name)
{
	str_add(name, "--");
	for (size_t i = 0; i < len; i++) {
		char c = key[i] == '_' ? '-' : (char)tolower((unsigned char)key[i]);
		str_add_mem(name, &c, 1);
	}
}

/* ---- a YAML file ---- */

/* One file of options being read. */
struct layer {
	struct cmd_invocation *inv;
	const char *path;
	enum opt_source source; /* FILE or USER */
	struct problems *problems;
};

/* " (did you mean 'num_users'?)" */
static void add_suggestion(const struct cmd_invocation *inv, const char *name, struct str *out)
{
	const char *near = opt_nearest(&inv->set, name);
	if (!near)
		return;
	char key[64];
	const struct opt nearest = {.name = near};
	opt_key(&nearest, key, sizeof(key));
	str_addf(out, " (did you mean '%s'?)", key);
}

/* A key that is no option of this command. In a person's own file it may be for another command or version. */
static int foreign_key(const struct layer *layer, const char *where, const char *key, const char *name)
{
	const struct cmd_invocation *inv = layer->inv;
	CLEANUP_STR struct str near = {0};
	enum cmd_name what = cmd_options_lookup(inv, name);
	if (what == CMD_NAME_REFUSED)
		return problems_add(layer->problems, ERR_UNSUPPORTED, "%s%s: not in this version",
				    where, key);
	if (layer->source == OPT_FROM_USER && (what == CMD_NAME_ELSEWHERE || is_foreign(name)))
		return 0;
	add_suggestion(inv, name, &near);
	if (layer->source == OPT_FROM_USER) {
		log_warning("%s%s: no option has this name%s", where, key, str_text(&near));
		return near.rc;
	}
	return problems_add(layer->problems, ERR_CONFIG_INVALID,
			    "%s%s: no option of '%s %s' has this name%s", where, key,
			    inv->command->program, inv->command->name, str_text(&near));
}

static int set_from_node(const struct layer *layer, const struct opt_group *group, size_t index,
			 struct yaml_node *value, const char *where)
{
	const struct opt *opt = &group->opts[index];
	if (yaml_kind(value) == YAML_SCALAR)
		return opt_set_text(group, index, yaml_text(value), layer->source, where,
				    layer->problems);
	if (yaml_kind(value) != YAML_SEQUENCE || (opt->type != OPT_LIST && opt->type != OPT_WORDS &&
						opt->type != OPT_ARGS))
		return problems_add(layer->problems, ERR_CONFIG_INVALID,
				    "%s%s: a single value is expected", where, opt->name);
	int rc = 0;
	for (size_t i = 0; !rc && i < yaml_count(value); i++) {
		struct yaml_node *item = yaml_item(value, i);
		if (yaml_kind(item) != YAML_SCALAR)
			return problems_add(layer->problems, ERR_CONFIG_INVALID,
					    "%s%s: a list of plain words is expected", where, opt->name);
		rc = opt_set_text(group, index, yaml_text(item), layer->source, where,
				  layer->problems);
	}
	return rc;
}

static int set_from_pair(const struct layer *layer, const char *key, unsigned line,
			 struct yaml_node *value)
{
	CLEANUP_STR struct str where = {0};
	CLEANUP_STR struct str name = {0};
	const struct opt_group *group;
	size_t index;
	str_addf(&where, "%s:%u: ", layer->path, line);
	key_to_name(key, strlen(key), &name);
	if (where.rc || name.rc)
		return -ENOMEM;
	if (!opt_find(&layer->inv->set, str_text(&name), &group, &index) ||
	    group->opts[index].flags & OPT_F_TYPED)
		return foreign_key(layer, str_text(&where), key, str_text(&name));
	if (!strcmp(group->opts[index].name, "--config-file"))
		return problems_add(layer->problems, ERR_CONFIG_INVALID,
				    "%sconfig_file: a file of options cannot name another",
				    str_text(&where));
	if (layer->source == OPT_FROM_USER && !(group->opts[index].flags & OPT_F_SITE))
		return problems_add(layer->problems, ERR_CONFIG_INVALID,
				    "%s%s: says what is run, which a person's own configuration may "
				    "not; type it, or put it into a --config-file",
				    str_text(&where), key);
	if (yaml_kind(value) == YAML_NULL)
		return 0;
	int rc = set_from_node(layer, group, index, value, str_text(&where));
	return rc == -EINVAL ? 0 : rc; /* the problem is on the list */
}

static int read_layer(const struct layer *layer, struct yaml *y)
{
	struct yaml_node *root = yaml_root(y);
	int rc = 0;
	if (!root || yaml_kind(root) == YAML_NULL) {
		if (layer->source == OPT_FROM_FILE)
			log_warning("--config-file %s is empty", layer->path);
		return 0;
	}
	if (yaml_kind(root) != YAML_MAPPING)
		return problems_add(layer->problems, ERR_CONFIG_PARSE,
				    "%s:%u: lines of the form \"option: value\" are expected",
				    layer->path, yaml_line(root));
	for (size_t i = 0; !rc && i < yaml_count(root); i++) {
		struct yaml_node *value;
		unsigned line;
		const char *key = yaml_pair(root, i, &value, &line);
		rc = set_from_pair(layer, key, line, value);
	}
	return rc;
}

static int apply_file(struct cmd_invocation *inv, const char *path, enum opt_source source,
		      struct problems *problems)
{
	const struct layer layer = {inv, path, source, problems};
	struct yaml *y = NULL;
	struct error err = {0};
	int rc = yaml_open(path, &y, &err);
	if (rc) {
		if (source == OPT_FROM_FILE)
			error_prefix(&err, "--config-file");
		else if (rc != -EINVAL) /* it is not what is in it */
			error_hint(&err, "it may say where to run, so it is not passed over: make it readable, or name "
					 "another directory with XDG_CONFIG_HOME");
		return problems_add_error(problems, &err);
	}
	rc = read_layer(&layer, y);
	yaml_free(y);
	return rc;
}

/* ---- the person's own file ---- */

/* Path of config.yaml (free()); NULL when there is no home or no memory. */
static char *user_file(void)
{
	const char *xdg = getenv("XDG_CONFIG_HOME");
	const char *home = getenv("HOME");
	if (xdg && xdg[0] == '/')
		return path_join(xdg, "mlpstorage/config.yaml");
	return home && home[0] == '/' ? path_join(home, ".config/mlpstorage/config.yaml") : NULL;
}

/*
 * A file that is there counts, also when it cannot be read: then nothing runs. Where one cannot even look, as below the home
 * that sudo leaves in the environment, it is somebody else's.
 */
static int apply_user(struct cmd_invocation *inv, struct problems *problems)
{
	CLEANUP_FREE char *path = user_file();
	if (!path)
		return 0;
	if (!access(path, F_OK))
		return apply_file(inv, path, OPT_FROM_USER, problems);
	if (errno != ENOENT && errno != ENOTDIR)
		log_warning("%s: %s; if it is there, it does not count", path, strerror(errno));
	return 0;
}

/* ---- the environment ---- */

static int set_from_variable(struct cmd_invocation *inv, const char *variable, const char *name,
			     const char *text, struct problems *problems)
{
	CLEANUP_STR struct str where = {0};
	const struct opt_group *group;
	size_t index;
	str_addf(&where, "%s: ", variable);
	if (where.rc)
		return where.rc;
	switch (cmd_options_lookup(inv, name)) {
	case CMD_NAME_OURS:
		opt_find(&inv->set, name, &group, &index);
		int rc = opt_set_text(group, index, text, OPT_FROM_ENVIRONMENT, str_text(&where),
				      problems);
		return rc == -EINVAL ? 0 : rc;
	case CMD_NAME_REFUSED:
		return problems_add(problems, ERR_UNSUPPORTED, "%snot in this version",
				    str_text(&where));
	case CMD_NAME_ELSEWHERE:
		return 0;
	case CMD_NAME_UNKNOWN:
		break;
	}
	CLEANUP_STR struct str near = {0};
	add_suggestion(inv, name, &near);
	if (!is_foreign(name))
		log_warning("%s: no option has this name%s", variable, str_text(&near));
	return near.rc;
}

/* @pair: "NAME=VALUE". A variable that is empty is not set. */
static int apply_variable(struct cmd_invocation *inv, const char *pair, struct problems *problems)
{
	CLEANUP_STR struct str variable = {0};
	CLEANUP_STR struct str name = {0};
	size_t len = strcspn(pair, "=");
	size_t prefix = strlen(ENV_PREFIX);
	if (!pair[len] || !pair[len + 1])
		return 0;
	str_add_mem(&variable, pair, len);
	if (variable.rc)
		return variable.rc;
	if (!strcmp(str_text(&variable), "MLPS_DEBUG")) /* the reference's own name for it */
		str_add(&name, "--debug");
	else if (len > prefix && !strncmp(pair, ENV_PREFIX, prefix))
		key_to_name(pair + prefix, len - prefix, &name);
	else
		return 0;
	return name.rc ? name.rc
		       : set_from_variable(inv, str_text(&variable), str_text(&name), pair + len + 1,
					   problems);
}

static int apply_environment(struct cmd_invocation *inv, struct problems *problems)
{
	int rc = 0;
	for (char **pair = environ; !rc && *pair; pair++)
		rc = apply_variable(inv, *pair, problems);
	return rc;
}

int cmd_layers_apply(struct cmd_invocation *inv, struct problems *problems)
{
	int rc = apply_environment(inv, problems); /* first: it may name the file */
	if (!rc && inv->universal.config_file)
		rc = apply_file(inv, inv->universal.config_file, OPT_FROM_FILE, problems);
	return rc ? rc : apply_user(inv, problems);
}

/* ---- what became of it ---- */

static void log_value(const struct opt_group *group, size_t index)
{
	CLEANUP_STR struct str text = {0};
	char key[64];
	enum opt_source source = group->source[index];
	opt_key(&group->opts[index], key, sizeof(key));
	if (!opt_text(group, index, &text))
		str_add(&text, "(unset)");
	log_line(source == OPT_FROM_DEFAULT ? LOG_DEBUG : LOG_VERBOSE, "%s = %s (%s)", key,
		 str_text(&text), opt_source_name(source));
}

void cmd_layers_log(const struct cmd_invocation *inv)
{
	for (size_t g = 0; g < inv->set.count; g++)
		for (size_t i = 0; i < inv->set.groups[g].count; i++)
			log_value(&inv->set.groups[g], i);
}
