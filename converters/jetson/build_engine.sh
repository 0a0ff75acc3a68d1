#!/bin/sh
# Builds a TensorRT engine from this folder's ONNX file and checks it with the golden samples. An engine belongs to the
# GPU and the TensorRT that it was built with: run this on the very device.
#   usage: sh build_engine.sh [fp16|int8]     (without: int8 where the folder has model_qdq.onnx)
#   TRTEXEC=/path/to/trtexec where it is not found; exit code 0: built and right, 1: not, 2: can't be tried
set -eu

die() {
    code=$1
    shift
    printf 'build_engine: %s\n' "$*" >&2
    exit "$code"
}

cd -- "$(dirname -- "$0")"

precision=${1:-}
if [ -z "$precision" ]; then
    if [ -f model_qdq.onnx ]; then precision=int8; else precision=fp16; fi
fi
case $precision in
fp16) onnx=model.onnx ;;
int8) onnx=model_qdq.onnx ;;
*) die 2 "unknown precision '$precision': fp16 or int8" ;;
esac
[ -f "$onnx" ] || die 2 "there is no $onnx in $PWD: make the folder with edge-convert tensorrt --precision $precision"

trtexec=${TRTEXEC:-$(command -v trtexec || true)}
if [ -z "$trtexec" ]; then
    for place in /usr/src/tensorrt/bin/trtexec /usr/local/tensorrt/bin/trtexec /opt/tensorrt/bin/trtexec; do
        [ -x "$place" ] && trtexec=$place
    done
fi
[ -n "$trtexec" ] || die 2 "trtexec is not on the PATH and not in /usr/src/tensorrt/bin: apt-get install tensorrt"
[ -x "$trtexec" ] || die 2 "$trtexec is no program"
python3 -c 'import numpy' 2>/dev/null || die 2 "the check needs python3 with numpy: apt-get install python3-numpy"

help=$("$trtexec" --help 2>&1) || true
case $help in
*--fp16*) ;;
*) die 2 "this trtexec has no --fp16 (TensorRT 8.6 to 10 have it)" ;;
esac

engine=model_$precision.engine
log=build_$precision.log
trap 'rm -f -- "$engine.part"' EXIT

set -- "--onnx=$onnx" "--saveEngine=$engine.part" --fp16 --timingCacheFile=timing.cache
# with pairs of QuantizeLinear and DequantizeLinear in the file, int8 only means that they may be obeyed
[ "$precision" = fp16 ] || set -- "$@" --int8
echo "building $engine with $trtexec, this takes minutes; the log is $log"
if ! "$trtexec" "$@" >"$log" 2>&1; then
    tail -n 20 -- "$log" >&2
    die 1 "trtexec could not build the engine; all it said is in $PWD/$log"
fi
[ -f "$engine.part" ] || die 1 "trtexec wrote no engine; see $PWD/$log"
grep -E 'Throughput:|[^a-z]Latency: min' "$log" || true

status=0
python3 check_engine.py --precision "$precision" --engine "$engine.part" --trtexec "$trtexec" || status=$?
case $status in
0) ;;
1) die 1 "the engine does not give the outputs of $onnx: it was thrown away" ;;
*) die 2 "the engine could not be checked: it was thrown away" ;;
esac
mv -f -- "$engine.part" "$engine"
echo "$PWD/$engine is right"
