/* SPDX-License-Identifier: Apache-2.0 */
/*
 * result/result.h - what a run found, as a JSON file for programs and as text for people.
 *
 * Receives: struct run_result, when nothing writes to it any more.  Gives: a JSON tree, a file,
 * text. Must not know: how anything was measured, or who reads it.
 *
 * Names, units and formulas of the fields: fields.c, one row each.
 */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "base/str.h"
#include "metrics/run_result.h"

/** Version of the result file's layout; its first part changes when a field changes its meaning. */
#define RESULT_SCHEMA_VERSION "1.0"

/**
 * result_json() - the whole result file as a tree
 * Every number in it is finite; what is not known is null. Keys stand in the order of fields.c.
 * Return: a new reference for json_decref(); NULL when memory ran out.
 */
json_t *result_json(const struct run_result *r);

/** result_json_text() - a string; where @text is not UTF-8 (a path, a text cut short), "?" for what is not ASCII. */
json_t *result_json_text(const char *text);

/** result_snapshot() - the few fields that are known while the run goes on, and "partial": true. Return: a new reference, NULL. */
json_t *result_snapshot(const struct run_result *r);

/**
 * result_dump() - the result file's text
 * @has_histograms: false leaves out their buckets, which are most of it
 * Doubles are written with the shortest text that reads back as the same double.
 * Return: 0 or -ENOMEM.
 */
int result_dump(const struct run_result *r, bool has_histograms, struct str *ret);

/**
 * result_write() - write the result file, replacing an older one in one step
 * Return: 0, -ENOMEM, or what file_write_atomic() said; on failure @path is as it was.
 */
int result_write(const struct run_result *r, const char *path);

/**
 * result_interval() - append one interval of the run as a line of JSON, its end included
 * "counters" holds what adds up over the intervals of the window to the run's total. Return: 0 or -ENOMEM.
 */
int result_interval(const struct run_interval *i, struct str *out);

/**
 * result_text() - the summary for people: plain ASCII, at most 100 columns
 * A value without a sample is shown as "-".
 * Return: 0, -ENOMEM, -EIO when @out took not all of it.
 */
int result_text(const struct run_result *r, FILE *out);
