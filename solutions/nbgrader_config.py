"""nbgrader's settings for a course made from these solutions; copy it into the course folder."""

import os
import tempfile

os.environ["MINIGEN_STRICT"] = "1"  # the kernel that grades inherits it: a check that does not pass raises

os.environ["MINIGEN_HOME"] = tempfile.mkdtemp(prefix="minigen-grading-")  # not the teacher's own progress

c = get_config()  # noqa: F821 (nbgrader provides it)
c.CourseDirectory.course_id = "minigen"
c.CourseDirectory.root = "."
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError"}
c.ExecutePreprocessor.timeout = 600
