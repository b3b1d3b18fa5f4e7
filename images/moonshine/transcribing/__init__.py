"""Speech to text: OpenAI's transcription routes around Moonshine's own library."""
