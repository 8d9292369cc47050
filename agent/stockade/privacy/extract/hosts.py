"""The hosts that serve models to the public. A policy adds its own (`endpoints`); local servers are known by their paths.

Every request to one of these that is not of a known schema is an unknown body, so the table is about hosts, never about paths of them.
`*.` is one or more labels. Each is the host of the provider's own API reference, or the one that the provider's own command line asks.
"""

from __future__ import annotations

HOSTS = (
    # OpenAI, Azure, GitHub
    "api.openai.com",
    "*.api.openai.com",  # regional: eu., us.
    "chatgpt.com",  # Codex, for who pays by subscription
    "*.openai.azure.com",
    "*.services.ai.azure.com",
    "*.models.ai.azure.com",
    "*.cognitiveservices.azure.com",
    "models.github.ai",
    "models.inference.ai.azure.com",
    "api.githubcopilot.com",
    "*.githubcopilot.com",
    # Anthropic
    "api.anthropic.com",
    # Google
    "generativelanguage.googleapis.com",
    "aiplatform.googleapis.com",
    "*.aiplatform.googleapis.com",
    "*-aiplatform.googleapis.com",
    "aiplatform.*.rep.googleapis.com",
    "cloudcode-pa.googleapis.com",  # Gemini's command line
    "*-cloudcode-pa.googleapis.com",
    "*cloudcode-pa.sandbox.googleapis.com",
    # Amazon
    "bedrock-runtime.*.amazonaws.com",
    "bedrock-runtime-fips.*.amazonaws.com",
    "bedrock-mantle.*.api.aws",
    "bedrock-runtime.*.api.aws",
    "bedrock-agent-runtime.*.amazonaws.com",
    "runtime.sagemaker.*.amazonaws.com",
    "q.*.amazonaws.com",  # its command line
    "codewhisperer.*.amazonaws.com",
    # others, most with OpenAI's schema
    "openrouter.ai",
    "api.mistral.ai",
    "codestral.mistral.ai",
    "api.groq.com",
    "api.together.xyz",
    "api.together.ai",
    "api.deepseek.com",
    "api.cohere.com",
    "api.cohere.ai",
    "api.x.ai",
    "*.api.x.ai",
    "integrate.api.nvidia.com",
    "ai.api.nvidia.com",
    "api.nvcf.nvidia.com",
    "api.fireworks.ai",
    "api.perplexity.ai",
    "api.cerebras.ai",
    "api.sambanova.ai",
    "api.deepinfra.com",
    "api.novita.ai",
    "api.hyperbolic.xyz",
    "api.studio.nebius.com",
    "api.tokenfactory.nebius.com",
    "router.huggingface.co",
    "api-inference.huggingface.co",
    "*.endpoints.huggingface.cloud",
    "api.replicate.com",
    "api.ai21.com",
    "api.moonshot.ai",
    "api.moonshot.cn",
    "api.z.ai",
    "open.bigmodel.cn",
    "api.minimax.io",
    "dashscope.aliyuncs.com",
    "dashscope-intl.aliyuncs.com",
    "api.voyageai.com",
    "api.jina.ai",
    "api.ollama.com",
    "ollama.com",
    "gateway.ai.cloudflare.com",
    "ai-gateway.vercel.sh",
    "inference.baseten.co",
    "api.lambda.ai",
)
