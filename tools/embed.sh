#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Writes a C file that holds the given text files: embed.sh OUTPUT FILE...
set -eu
out=$1
shift
{
	echo '/* Made by tools/embed.sh from data/; do not edit. */'
	echo '#include "config/internal.h"'
	i=0
	for file; do
		echo "static const char text_$i[] = {"
		# A file of bytes above 127 would not fit a plain char initialiser: these files are ASCII.
		od -An -v -tx1 "$file" | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g'
		echo '0};'
		i=$((i + 1))
	done
	echo 'const struct shipped_file shipped_files[] = {'
	i=0
	for file; do
		echo "{\"$(basename "$file")\", text_$i},"
		i=$((i + 1))
	done
	echo '{NULL, NULL}};'
} >"$out"
