"""Text to speech behind OpenAI's `/v1/audio/speech`: Kokoro, and F5-TTS for voices that are cloned."""
