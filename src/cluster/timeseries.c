// SPDX-License-Identifier: Apache-2.0
/* Samples in the order they come go to a file of lines; at the end they are read back machine by machine. */
#include "cluster/timeseries.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/clock.h"
#include "cluster/source.h"

/** A machine. */
struct machine {
	uint32_t source;
	char *name; /* unique among them */
	uint64_t count;
};

/** Where a sample stands in the part. */
struct sample {
	uint64_t offset;
	uint32_t len;
	uint32_t machine; /* index */
};

struct timeseries {
	pthread_mutex_t lock; /* guards all that follows but the paths */
	char *path, *part_path;
	int fd; /* of the part */
	double interval_s;
	uint64_t max_count;
	time_t started, last;
	struct machine *machine;
	size_t machine_count;
	struct sample *sample;
	uint64_t sample_count, dropped;
	uint64_t end; /* bytes of the part */
};

int timeseries_open(const struct timeseries_spec *spec, struct timeseries **ret, struct error *err)
{
	struct timeseries *t = calloc(1, sizeof(*t));
	if (!t)
		return error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	*t = (struct timeseries){
		.fd = -1, .interval_s = spec->interval_s, .max_count = spec->max_count};
	pthread_mutex_init(&t->lock, NULL);
	t->started = t->last = time(NULL);
	t->path = strdup(spec->path);
	if (t->path && asprintf(&t->part_path, "%s.part", spec->path) < 0)
		t->part_path = NULL;
	int rc = t->path && t->part_path ? 0
					 : error_set(err, -ENOMEM, ERR_INTERNAL, "out of memory");
	if (!rc) {
		t->fd = open(t->part_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (t->fd < 0)
			rc = error_set(err, -errno, err_fs_code(-errno), "cannot write %s: %s",
				       t->part_path, strerror(errno));
	}
	if (rc) {
		timeseries_free(t);
		return rc;
	}
	*ret = t;
	return 0;
}

void timeseries_free(struct timeseries *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->machine_count; i++)
		free(t->machine[i].name);
	free(t->machine);
	free(t->sample);
	if (t->fd >= 0)
		close(t->fd);
	free(t->part_path);
	free(t->path);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* Capacity doubles at powers of two, so that none need be stored. */
static void *grown(void *list, size_t count, size_t size)
{
	if (count & (count - 1))
		return list;
	return reallocarray(list, count ? 2 * count : 1, size);
}

static bool name_is_taken(const struct timeseries *t, const char *name)
{
	for (size_t i = 0; i < t->machine_count; i++)
		if (!strcmp(t->machine[i].name, name))
			return true;
	return false;
}

static struct machine *add_machine(struct timeseries *t, uint32_t source, const char *hostname)
{
	struct machine *list = grown(t->machine, t->machine_count, sizeof(*list));
	if (!list)
		return NULL;
	t->machine = list;
	char *name = NULL;
	if (name_is_taken(t, hostname)) {
		if (asprintf(&name, "%s (%u)", hostname, source) < 0)
			name = NULL;
	} else {
		name = strdup(hostname);
	}
	if (!name)
		return NULL;
	list[t->machine_count] = (struct machine){.source = source, .name = name};
	return &list[t->machine_count++];
}

static struct machine *find_machine(struct timeseries *t, uint32_t source, const char *hostname)
{
	for (size_t i = 0; i < t->machine_count; i++)
		if (t->machine[i].source == source)
			return &t->machine[i];
	return add_machine(t, source, hostname);
}

static int append(struct timeseries *t, struct machine *m, const char *line, size_t len)
{
	struct sample *list = grown(t->sample, t->sample_count, sizeof(*list));
	if (!list)
		return -ENOMEM;
	t->sample = list;
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(t->fd, line + done, len - done, (off_t)(t->end + done));
		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	if (pwrite(t->fd, "\n", 1, (off_t)(t->end + len)) != 1)
		return -EIO;
	list[t->sample_count++] =
		(struct sample){t->end, (uint32_t)len, (uint32_t)(m - t->machine)};
	t->end += len + 1;
	t->last = time(NULL);
	m->count++;
	return 0;
}

static int add_checked(struct timeseries *t, uint32_t source, const char *hostname,
		       const char *line, size_t len)
{
	struct machine *m = find_machine(t, source, hostname);
	if (!m)
		return -ENOMEM;
	if (m->count >= t->max_count) {
		t->dropped++;
		return -EOVERFLOW;
	}
	return append(t, m, line, len);
}

int timeseries_add(struct timeseries *t, uint32_t source, const char *line, size_t len)
{
	json_t *sample = len < UINT32_MAX && !memchr(line, '\n', len)
				 ? json_loadb(line, len, 0, NULL)
				 : NULL;
	const char *hostname = json_string_value(json_object_get(sample, "hostname"));
	int rc = -EINVAL;
	if (hostname) {
		pthread_mutex_lock(&t->lock);
		rc = add_checked(t, source, hostname, line, len);
		pthread_mutex_unlock(&t->lock);
	}
	json_decref(sample);
	return rc;
}

/* --- the file */

/* A member of the object, behind the opening brace or another member. Takes @value. */
static void put_member(FILE *f, const char *key, json_t *value)
{
	CLEANUP_FREE char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
	fprintf(f, "\n  \"%s\": %s,", key, text ? text : "null");
	json_decref(value);
}

static json_t *time_text(time_t when)
{
	char text[CLOCK_ISO_SIZE];
	clock_iso_utc(text, when);
	return json_string(text);
}

static json_t *names_of(const struct strlist *list)
{
	json_t *names = json_array();
	for (size_t i = 0; list && i < list->count; i++)
		json_array_append_new(names, source_string(list->v[i], strlen(list->v[i])));
	return names;
}

static json_t *hosts_of(const struct timeseries *t)
{
	json_t *names = json_array();
	for (size_t i = 0; i < t->machine_count; i++)
		json_array_append_new(names, json_string(t->machine[i].name));
	return names;
}

static int copy_sample(FILE *f, const struct timeseries *t, const struct sample *s, struct str *buf)
{
	str_clear(buf);
	while (buf->len < s->len) {
		char piece[8192];
		size_t want = s->len - buf->len < sizeof(piece) ? s->len - buf->len : sizeof(piece);
		ssize_t n = pread(t->fd, piece, want, (off_t)(s->offset + buf->len));
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		str_add_mem(buf, piece, (size_t)n);
		if (buf->rc)
			return buf->rc;
	}
	fwrite(str_text(buf), 1, buf->len, f);
	return 0;
}

static int compare_by_machine(const void *a, const void *b)
{
	const struct sample *x = a, *y = b;
	if (x->machine != y->machine)
		return x->machine < y->machine ? -1 : 1;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

static int put_samples(FILE *f, struct timeseries *t)
{
	CLEANUP_STR struct str buf = {0};
	int rc = 0;
	qsort(t->sample, t->sample_count, sizeof(*t->sample), compare_by_machine);
	fputs("\n  \"samples_by_host\": {", f);
	for (uint64_t i = 0; !rc && i < t->sample_count; i++) {
		const struct sample *s = &t->sample[i];
		if (i == 0 || s->machine != s[-1].machine) {
			json_t *name = json_string(t->machine[s->machine].name);
			CLEANUP_FREE char *key = json_dumps(name, JSON_ENCODE_ANY);
			fprintf(f, "%s\n    %s: [\n", i ? "\n    ]," : "", key ? key : "\"\"");
			json_decref(name);
		} else {
			fputs(",\n", f);
		}
		rc = copy_sample(f, t, s, &buf);
	}
	fputs("\n    ]\n  }\n}\n", f);
	return rc;
}

static int put_all(FILE *f, struct timeseries *t, const struct timeseries_end *end)
{
	fputs("{", f);
	put_member(f, "collection_interval_seconds", json_real(t->interval_s));
	put_member(f, "start_time", time_text(t->started));
	put_member(f, "end_time", time_text(t->last));
	put_member(f, "num_samples", json_integer((json_int_t)t->sample_count));
	if (t->dropped)
		put_member(f, "dropped_samples", json_integer((json_int_t)t->dropped));
	if (end->overhead_percent >= 0)
		put_member(f, "overhead_percent", json_real(end->overhead_percent));
	put_member(f, "collection_method", json_string(end->method));
	put_member(f, "hosts_requested", names_of(end->requested));
	put_member(f, "hosts_collected", hosts_of(t));
	return put_samples(f, t);
}

/* As file_write_atomic(), in pieces: the whole may be larger than memory. */
static int write_file(struct timeseries *t, const struct timeseries_end *end)
{
	CLEANUP_FREE char *tmp = NULL;
	if (asprintf(&tmp, "%s.tmp", t->path) < 0) {
		tmp = NULL;
		return -ENOMEM;
	}
	FILE *f = fopen(tmp, "we");
	if (!f)
		return -errno;
	int rc = put_all(f, t, end);
	if (!rc && (ferror(f) || fflush(f) || fsync(fileno(f))))
		rc = errno ? -errno : -EIO;
	if (fclose(f) && !rc)
		rc = -errno;
	if (!rc && rename(tmp, t->path))
		rc = -errno;
	if (rc)
		unlink(tmp);
	return rc;
}

int timeseries_finish(struct timeseries *t, const struct timeseries_end *end)
{
	pthread_mutex_lock(&t->lock);
	int rc = t->sample_count ? write_file(t, end) : 0;
	if (!rc)
		unlink(t->part_path);
	pthread_mutex_unlock(&t->lock);
	return rc;
}

uint64_t timeseries_count(struct timeseries *t)
{
	pthread_mutex_lock(&t->lock);
	uint64_t count = t->sample_count;
	pthread_mutex_unlock(&t->lock);
	return count;
}

uint64_t timeseries_dropped(struct timeseries *t)
{
	pthread_mutex_lock(&t->lock);
	uint64_t count = t->dropped;
	pthread_mutex_unlock(&t->lock);
	return count;
}

json_t *timeseries_hosts(struct timeseries *t)
{
	pthread_mutex_lock(&t->lock);
	json_t *names = hosts_of(t);
	pthread_mutex_unlock(&t->lock);
	return names;
}
