"""llama.cpp's own server on a model, as xllamacpp brings it: python3 llama_server.py MODEL [ADDRESS PORT]. Prints its port."""

import signal
import sys

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx, parameters.n_parallel, parameters.n_threads_http = 8192, 2, 4
parameters.cpuparams.n_threads, parameters.warmup = 1, False
parameters.sampling.temp = 0.0
parameters.embedding, parameters.pooling_type = True, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
parameters.port = 0
if len(sys.argv) > 2:
    parameters.hostnames, parameters.port = [sys.argv[2]], int(sys.argv[3])
server = xllamacpp.Server(parameters)
print(server.listening_address.rpartition(":")[2], flush=True)
signal.pause()
