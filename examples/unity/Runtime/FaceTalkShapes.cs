// Which of a model's weights a blend shape takes, by their names.
using System;
using System.Collections.Generic;

namespace FaceTalk
{
    public static class FaceTalkShapes
    {
        /// <summary>Finds the weights whose mean a blend shape takes: two where the model has a shape once a side and the
        /// mesh, as ARKit with browInnerUp and cheekPuff, has one; else the same one twice.</summary>
        /// <param name="names">The model's curves, then its tongue's weights.</param>
        /// <param name="shape">"jawOpen", "JawOpen" or "face.jawOpen"; "mouthSmileLeft" or "mouthSmile_L".</param>
        /// <returns>Whether there are such weights.</returns>
        public static bool Find(IReadOnlyList<string> names, string shape, out int first, out int second)
        {
            string key = Key(shape);
            first = second = -1;
            int left = -1, right = -1;
            for (int i = 0; i < names.Count; ++i)
            {
                if (Key(names[i]) == key) first = second = i;
                // Not jawLeft for a shape called "jaw": those are ways to go, not halves.
                if (names[i].EndsWith("_L", StringComparison.Ordinal) && Key(names[i]) == key + "left") left = i;
                if (names[i].EndsWith("_R", StringComparison.Ordinal) && Key(names[i]) == key + "right") right = i;
            }
            if (first < 0 && left >= 0 && right >= 0)
            {
                first = left;
                second = right;
            }
            return first >= 0;
        }

        private static string Key(string name)
        {
            name = name.Substring(name.LastIndexOf('.') + 1).ToLowerInvariant();
            if (name.EndsWith("_l", StringComparison.Ordinal)) return name.Substring(0, name.Length - 2) + "left";
            return name.EndsWith("_r", StringComparison.Ordinal) ? name.Substring(0, name.Length - 2) + "right" : name;
        }
    }
}
